//! This router on SQLite and on Postgres, and beside it, in the same run, what somebody could use in its place.
//!
//! ```text
//! scripts/bench                                             # installs the others first
//! scripts/bench --short                                     # only to see that everything works
//! cargo bench --bench peers -- --systems sqlite,redis --outstanding 64 --payloads 200
//! ```
//!
//! Every system does the same job: a master asks, the question is made durable, one of 32 workers picks it up and answers
//! with what it was asked, the answer is made durable and comes back to the master. Always the same number are on their way.
//! All answers are checked. Each server runs with its durable setting in a fresh folder on the same disk; the clients are as
//! lean as those of the router: they take apart what one read brings and say all that there is to say in one write.
//!
//! A round measures each system in turn, with each payload and number outstanding. Tables have the medians of all rounds;
//! ratios are taken inside a round. The ceilings are a relay over WebSockets that keeps nothing, the same with a plain file
//! that is synced, and what the disk does by itself.
//!
//! - `options`: what is measured. `system`: what there is. `measure`: a round. `report`: the tables; `bars` what figures have
//!   to reach, `page` where they are written, `machine` where that was.
//! - `load`: the job. `redis` (`resp`), `nats`, `rabbitmq` (`amqp`), `queue`, `relay`: how each does it; `line`: a connection.
//! - `operations`: the drain of a queue, and memory. `sequential`: the disk. `server`: processes.
//! - The rest is that of the benchmark `load`: the clients of the router, and how it is started.

#[path = "../load/agent.rs"]
mod agent;
mod amqp;
mod bars;
#[path = "../load/disk.rs"]
mod disk;
mod line;
mod load;
mod machine;
#[path = "../load/master.rs"]
mod master;
mod measure;
mod nats;
mod operations;
mod options;
mod page;
#[path = "../load/payload.rs"]
mod payload;
#[path = "../load/postgres.rs"]
#[expect(dead_code, reason = "the other benchmark asks how databases grow, and how fast they commit")]
mod postgres;
mod queue;
mod rabbitmq;
mod redis;
mod relay;
mod report;
mod resp;
#[path = "../load/router.rs"]
#[expect(dead_code, reason = "the other benchmark looks at commits, and verifies")]
mod router;
mod sequential;
mod server;
mod system;
#[path = "../load/wire.rs"]
mod wire;

use clap::Parser;

use options::Options;

/// Whatever makes a measurement worthless, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let options = Options::parse().settled();
    if let Some(file) = &options.relay {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(relay::serve(Some(file.as_path()).filter(|file| file.as_os_str() != "-")));
    }
    // The clients share one thread.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {}", options.rounds);
        rounds.push(measure::round(options).await?);
    }
    let text = report::page(options, &rounds);
    println!("{text}");
    if let Some(page) = options.page() {
        page::replace(page, "peers", &text)?;
    }
    Ok(())
}
