//! Frames in and out, of a small payload and of a large one.

use std::hint::black_box;

use agent_router::protocol::{Delivery, Dialect, Inbound, parse};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::stage::{answer_frame, invoke_frame};

/// With the id that a caller's second invocation at a time carries.
const CALLER: &str = "caller#0198c1f0-0000-7000-8000-000000000000";

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for size in [200, 16 << 10] {
        let filling = "x".repeat(size);
        group.throughput(Throughput::Bytes(size as u64));
        for (name, frame) in
            [("parse an invocation", invoke_frame(&filling)), ("parse an answer", answer_frame(&filling, CALLER))]
        {
            let frame = Bytes::from(frame);
            group.bench_with_input(BenchmarkId::new(name, size), &frame, |bencher, frame| {
                bencher.iter(|| parse(black_box(frame), Dialect::default()));
            });
        }
        let Ok(Inbound::Invoke(invoke)) = parse(&invoke_frame(&filling).into(), Dialect::default()) else {
            unreachable!("the frame is an invocation")
        };
        let delivery = Delivery { invoked_by: CALLER, addition: None };
        group.bench_with_input(BenchmarkId::new("encode a delivery", size), &invoke.body, |bencher, body| {
            bencher.iter(|| delivery.encode(black_box(body)));
        });
    }
    group.finish();
}
