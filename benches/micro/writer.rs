//! What a commit takes, by how many invocations are in it: one of what was accepted and delivered, and one of the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_router::clock::Clock;
use agent_router::journal::Journal;
use agent_router::journal::sqlite::{SqliteJournal, SqliteOptions};
use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::runtime::Runtime;

use crate::stage::Stage;

pub(crate) fn measure(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("writer");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for count in [1, 64, 512] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("commit both parts of an invocation", count), |bencher| {
            bencher.iter_custom(|times| runtime.block_on(commits(count, times)));
        });
    }
    group.finish();
}

/// The time in which as many invocations as asked are committed so often. What is committed is decided outside of it.
async fn commits(count: usize, times: u64) -> Duration {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let options = SqliteOptions::new(folder.path().join("journal.db"), "measured");
    let journal = SqliteJournal::open(&options).await.expect("a journal");
    let restored = journal.restore().await.expect("an empty journal");
    let (mut stage, batches) = Stage::new(restored, Clock::start().now());
    for batch in batches {
        journal.commit(batch.into()).await.expect("a commit");
    }
    let mut took = Duration::ZERO;
    for _ in 0..times {
        let (accepting, invoked_by) = stage.invoke(count);
        let batches = [accepting, stage.answer(&invoked_by)];
        assert!(batches.iter().all(|batch| batch.events.len() >= count), "each is accepted, and answered");
        for batch in batches.map(Arc::new) {
            let started = Instant::now();
            journal.commit(batch).await.expect("a commit");
            took += started.elapsed();
        }
    }
    journal.close().await;
    took
}
