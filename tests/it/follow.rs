//! Somebody follows the history while everything around is restarted: every position comes once, and in order.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::faults::load::{Load, Pace, SETTINGS, Scale};
use crate::faults::notes::Bodies;
use crate::faults::seeded;
use crate::support::{AUDITOR_KEY, PATIENCE, Router};

const RESTARTS: usize = 20;
const RECONNECTS: usize = 100;

/// Who follows, and what it has seen.
struct Follower {
    http: reqwest::Client,
    addresses: watch::Receiver<Vec<SocketAddr>>,
    seen: watch::Sender<Vec<i64>>,
    random: StdRng,
    connections: usize,
}

impl Follower {
    /// Follows for ever: whenever the stream ends, or it has had enough of it, it goes on where it was.
    async fn follow(mut self, connections: watch::Sender<usize>) {
        loop {
            let url = format!("http://{}/v1/history/stream", self.addresses.borrow()[0]);
            let last = self.seen.borrow().last().copied().unwrap_or(0).to_string();
            let asked = self.http.get(url).header("api-key", AUDITOR_KEY).header("last-event-id", last);
            match asked.send().await {
                Ok(mut response) if response.status() == 200 => {
                    self.connections += 1;
                    connections.send_replace(self.connections);
                    let enough = Instant::now() + Duration::from_millis(self.random.random_range(10..200));
                    self.read(&mut response, enough).await;
                }
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Notes what comes until the stream ends or it is time for the next. Half an event at the end is no event.
    async fn read(&self, response: &mut reqwest::Response, enough: Instant) {
        let mut text = Vec::new();
        while let Ok(Ok(Some(more))) = tokio::time::timeout_at(enough, response.chunk()).await {
            text.extend_from_slice(&more);
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                self.note(std::str::from_utf8(&event).expect("the stream is text"));
            }
        }
    }

    fn note(&self, event: &str) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(data) = field("data:") else { return };
        let data: serde_json::Value = serde_json::from_str(data).expect("an event is one line of JSON");
        let position = data["position"].as_i64().expect("an event has its position");
        assert_eq!(field("id:"), Some(position.to_string().as_str()), "{event}");
        self.seen.send_modify(|seen| seen.push(position));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_position_comes_once_over_restarts_and_reconnects() {
    let mut random = seeded();
    let mut router = Router::with(&SETTINGS).await;
    // A follower that breaks off must be able to get each event whole in between.
    let scale = Scale { bodies: Bodies::Small, ..Scale::SHORT };
    let load = Load::start(vec![router.address()], scale, &Pace::default(), &mut random);
    let (seen, mut watched) = watch::channel(Vec::new());
    let (counted, mut connections) = watch::channel(0);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS can be built");
    let random_of_follower = StdRng::from_rng(&mut random);
    let follower = Follower { http, addresses: load.addresses(), seen, random: random_of_follower, connections: 0 };
    let mut following = JoinSet::new();
    following.spawn(follower.follow(counted));

    for _ in 0..RESTARTS {
        sleep(Duration::from_millis(random.random_range(100..500))).await;
        if random.random_bool(0.5) {
            router.kill();
        } else {
            router.stop().await;
        }
        router.start_again().await;
        load.moves_to(vec![router.address()]);
    }
    let enough = connections.wait_for(|connections| *connections > RECONNECTS);
    tokio::time::timeout(PATIENCE, enough).await.expect("it reconnects").expect("it follows");
    load.stop().await;

    let (_, head) = router.get("/v1/history/head").await;
    let head = head["position"].as_i64().expect("a head has its position");
    let all = watched.wait_for(|seen| seen.last().is_some_and(|last| *last >= head));
    let seen = tokio::time::timeout(PATIENCE, all).await.expect("it catches up").expect("it follows").clone();
    following.abort_all();
    assert!(seen.len() > 500, "too little happened: {} events", seen.len());
    let expected: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
    assert_eq!(seen, expected);
    eprintln!("{} events over {RESTARTS} restarts and {} connections", seen.len(), *connections.borrow());
}
