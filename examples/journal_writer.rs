//! How many invocations a second the journal's writer alone can take: each is accepted and delivered in one batch,
//! completed in a later one, and its answer delivered in a third, with payloads of 200 bytes.
//!
//! ```text
//! cargo run --release --example journal_writer [folder, on the disk to measure | postgres://…, an empty database]
//! ```

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_router::clock::Clock;
use agent_router::id::{Identity, InvocationId, NodeId, Position, SessionId};
use agent_router::invocation::{Invocation, Labels, Order, Origin, Outcome, Reply, Terms};
use agent_router::journal::postgres::{self, PostgresJournal, PostgresOptions};
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use agent_router::journal::{Accepted, Batch, Detail, Event, Journal, JournalError};
use bytes::Bytes;

const AGENTS: usize = 32;
const SIZES: [u32; 3] = [1, 64, 512];
const MEASURED: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    if place.starts_with("postgres") {
        postgres::migrate(&place).await?;
        let journal = PostgresJournal::open(&PostgresOptions::new(&place, "measured:8080")).await?;
        let mut load = Load::new(journal.restore().await?.head.position);
        for size in SIZES {
            measure(&journal, &mut load, size).await?;
        }
        journal.close().await;
        return Ok(());
    }
    for size in SIZES {
        let path = Path::new(&place).join(format!("journal-writer-{}-{size}.db", std::process::id()));
        let options = SqliteOptions::new(path.clone(), "measured:8080");
        let journal = SqliteJournal::open(&options).await?;
        let invocations = measure(&journal, &mut Load::new(Position(0)), size).await?;
        journal.close().await;
        println!("             {} bytes an invocation", std::fs::metadata(&path)?.len() / u64::from(invocations));
        std::fs::remove_file(&path)?;
        std::fs::remove_file(path.with_extension("db.lock"))?;
    }
    Ok(())
}

/// Prints what the journal took; gives back how many invocations.
async fn measure(journal: &dyn Journal, load: &mut Load, size: u32) -> Result<u32, JournalError> {
    let started = Instant::now();
    let (mut invocations, mut slowest) = (0_u32, Duration::ZERO);
    while started.elapsed() < MEASURED {
        for batch in load.invocations(size) {
            let begun = Instant::now();
            journal.begin().await?;
            journal.commit(batch.into()).await?;
            slowest = slowest.max(begun.elapsed());
        }
        invocations += size;
    }
    let elapsed = started.elapsed().as_secs_f64();
    println!(
        "batches of {size:>3}: {:>7.0} invocations/s, {:>6.0} commits/s, slowest commit {:.1} ms",
        f64::from(invocations) / elapsed,
        f64::from(invocations / size * 3) / elapsed,
        slowest.as_secs_f64() * 1000.0,
    );
    Ok(invocations)
}

struct Load {
    clock: Clock,
    position: Position,
    agents: Vec<(Identity, SessionId)>,
    caller: (Identity, SessionId),
    payload: Bytes,
}

impl Load {
    fn new(position: Position) -> Self {
        let peer =
            || (Identity::new(&SessionId::generate().to_string()).expect("a UUID is a name"), SessionId::generate());
        Self {
            clock: Clock::start(),
            position,
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
            let mut invocation = Invocation::new(Order {
                id: InvocationId::generate(),
                agent,
                caller: self.caller.0.clone(),
                origin: Origin::InvokeSocket { session: self.caller.1 },
                home: NodeId(1),
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
            });
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
            invocation.order_mut().accepted =
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
