//! What the ledger decides about one invocation: accepted and delivered, then answered.

use std::hint::black_box;

use agent_router::clock::Clock;
use agent_router::id::{NodeId, Position};
use agent_router::journal::{Head, NodeRow, NodeStanding, Restored};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

use crate::stage::Stage;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transitions");
    for count in [1, 64, 512] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("accept, deliver and answer", count), |bencher| {
            bencher.iter_batched_ref(
                stage,
                |stage| {
                    let (batch, invoked_by) = black_box(stage.invoke(count));
                    assert_eq!(batch.accepted.len(), count);
                    black_box(stage.answer(&invoked_by));
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// On an empty journal.
fn stage() -> Stage {
    let now = Clock::start().now();
    let nothing = Restored {
        head: Head { position: Position(0), hash: [0; 32] },
        agents: Vec::new(),
        sessions: Vec::new(),
        unsettled: Vec::new(),
        feed_acknowledged: Position(0),
        pruned: Position(0),
        nodes: Vec::new(),
        node: NodeRow {
            node: NodeId(1),
            name: "node".into(),
            epoch: 0,
            standing: NodeStanding::Stopped,
            version: "0".into(),
            started_at: now,
        },
        alone: true,
    };
    Stage::new(nothing, now).0
}
