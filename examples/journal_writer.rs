//! How many invocations a second the journal's writer alone can take: each is accepted and delivered in one batch,
//! completed in a later one, and its answer delivered in a third, with payloads of 200 bytes.
//!
//! ```text
//! cargo run --release --example journal_writer [folder, on the disk to measure]
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use agent_router::clock::Clock;
use agent_router::id::{Identity, InvocationId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Origin, Outcome, Reply, State, Terms};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Accepted, Batch, Detail, Event, Journal};
use bytes::Bytes;

const AGENTS: usize = 32;
const MEASURED: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::current_dir, |folder| Ok(folder.into()))?;
    for size in [1_u32, 64, 512] {
        let path = folder.join(format!("journal-writer-{}-{size}.db", std::process::id()));
        let options = SqliteOptions { path: path.clone(), node: "measured:8080".to_owned() };
        let journal = SqliteJournal::open(&options).await?;
        let mut load = Load::new();
        let started = Instant::now();
        let (mut invocations, mut slowest) = (0_u32, Duration::ZERO);
        while started.elapsed() < MEASURED {
            for batch in load.invocations(size) {
                let begun = Instant::now();
                journal.commit(&batch).await?;
                slowest = slowest.max(begun.elapsed());
            }
            invocations += size;
        }
        let elapsed = started.elapsed().as_secs_f64();
        journal.close().await;
        let bytes = std::fs::metadata(&path)?.len() / u64::from(invocations);
        println!(
            "batches of {size:>3}: {:>7.0} invocations/s, {:>6.0} commits/s, slowest commit {:.1} ms, {bytes} bytes an invocation",
            f64::from(invocations) / elapsed,
            f64::from(invocations / size * 3) / elapsed,
            slowest.as_secs_f64() * 1000.0,
        );
        std::fs::remove_file(&path)?;
        std::fs::remove_file(path.with_extension("db.lock"))?;
    }
    Ok(())
}

struct Load {
    clock: Clock,
    position: Position,
    agents: Vec<(Identity, SessionId)>,
    caller: (Identity, SessionId),
    payload: Bytes,
}

impl Load {
    fn new() -> Self {
        let peer =
            || (Identity::new(&SessionId::generate().to_string()).expect("a UUID is a name"), SessionId::generate());
        Self {
            clock: Clock::start(),
            position: Position(0),
            agents: (0..AGENTS).map(|_| peer()).collect(),
            caller: peer(),
            payload: Bytes::from(vec![b'x'; 200]),
        }
    }

    /// The three batches of `count` invocations.
    fn invocations(&mut self, count: u32) -> [Batch; 3] {
        let [mut accepting, mut completing, mut answering] = [Batch::default(), Batch::default(), Batch::default()];
        let now = self.clock.now();
        let mut fresh = Vec::new();
        for (agent, session) in self.agents.clone().into_iter().cycle().take(count as usize) {
            let terms = Terms { ttl: Duration::from_mins(1), ttl_given: false, deadline: now, max_attempts: 1 };
            let mut invocation = Invocation {
                id: InvocationId::generate(),
                agent,
                caller: self.caller.0.clone(),
                origin: Origin::InvokeSocket { session: self.caller.1 },
                additions: false,
                accepted: Position(0),
                accepted_at: now,
                body_bytes: 200,
                terms,
                key: None,
                labels: Labels {
                    request_id: Some(InvocationId::generate().to_string().into()),
                    session_id: Some("f4a8b1a2-4d0f-44c5-8c0f-1d6d2b8f7d11".into()),
                },
                attempt: 0,
                unreceipted: 0,
                starts: 0,
                receipted: false,
                delivered_at: None,
                plain_unanswered: false,
                state: State::Queued { since: now },
                reply: Reply::None,
            };
            let accepted = Accepted {
                origin: "invoke_socket",
                session: Some(self.caller.1),
                ttl_ms: 60_000,
                deadline_ms: 0,
                max_attempts: 1,
                idempotency_key: None,
                request_id: invocation.labels.request_id.clone(),
                session_id: invocation.labels.session_id.clone(),
                traceparent: None,
            };
            let payload = Some(self.payload.clone());
            invocation.accepted =
                self.happened(&mut accepting, &invocation, Detail::InvocationAccepted(accepted), payload);
            let delivered = Detail::InvocationDelivered { attempt: 1, session, plain: true };
            self.happened(&mut accepting, &invocation, delivered, None);
            invocation.deliver(session, now, true);
            accepting.accepted.push(invocation.clone());
            fresh.push(invocation);
        }
        for invocation in &mut fresh {
            let payload = Some(self.payload.clone());
            let answer =
                self.happened(&mut completing, invocation, Detail::InvocationCompleted { attempt: 1 }, payload);
            invocation.finish(Outcome::Completed, now, Some(answer));
            invocation.plain_unanswered = false;
            invocation.reply = Reply::Sent { session: self.caller.1 };
            completing.changed.push(invocation.clone());
        }
        for invocation in &mut fresh {
            let detail = Detail::AnswerDelivered { session: self.caller.1 };
            self.happened(&mut answering, invocation, detail, None);
            invocation.reply = Reply::None;
            answering.changed.push(invocation.clone());
        }
        [accepting, completing, answering]
    }

    fn happened(&mut self, batch: &mut Batch, about: &Invocation, detail: Detail, payload: Option<Bytes>) -> Position {
        self.position = self.position.next();
        batch.events.push(Event {
            position: self.position,
            at: self.clock.now(),
            invocation: Some(about.id),
            agent: Some(about.agent.clone()),
            caller: Some(about.caller.clone()),
            detail,
            payload,
            labels: about.labels.clone(),
        });
        self.position
    }
}
