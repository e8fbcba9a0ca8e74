//! The job that every system does: a master asks, one of the workers answers with what it was asked, and each answer brings
//! the next question, so that always the same number are on their way.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::Instant;

use crate::Failure;
use crate::payload::Payloads;

/// How long an answer may take beyond the measured time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) workers: u32,
    pub(crate) outstanding: u32,
    pub(crate) payloads: Payloads,
    /// How long it is measured.
    pub(crate) time: Duration,
    /// When that is, once everybody is connected.
    measured: SetOnce<Range<Instant>>,
}

impl Load {
    pub(crate) fn new(workers: u32, outstanding: u32, payload: usize, time: Duration) -> Self {
        Self { workers, outstanding, payloads: Payloads::of(payload), time, measured: SetOnce::new() }
    }

    /// Begins, now that everybody is connected. Something is asked until the end of this, and answers in it are measured.
    pub(crate) fn begin(&self) -> Range<Instant> {
        let start = Instant::now() + WARM_UP;
        self.measured.set(start..start + self.time).expect("a load begins once");
        start..start + self.time
    }

    /// Waits until it has begun.
    pub(crate) async fn measured(&self) -> Range<Instant> {
        self.measured.wait().await.clone()
    }

    /// How many a worker takes at a time, so that each has its share.
    pub(crate) fn share(&self) -> u32 {
        self.outstanding.div_ceil(self.workers)
    }
}

/// What a master has asked, and how long answers took.
#[derive(Debug)]
pub(crate) struct Questions<'a> {
    load: &'a Load,
    measured: Range<Instant>,
    /// When those were asked that are not answered, by their number.
    waiting: HashMap<u64, Instant>,
    next_number: u64,
    latencies: Vec<Duration>,
}

impl<'a> Questions<'a> {
    /// Begins the load.
    pub(crate) fn new(load: &'a Load) -> Self {
        Self { load, measured: load.begin(), waiting: HashMap::new(), next_number: 0, latencies: Vec::new() }
    }

    /// When all that is still missing is taken for lost.
    pub(crate) fn too_late(&self) -> Instant {
        self.measured.end + PATIENCE
    }

    /// What is asked before any answer comes.
    pub(crate) fn first(&mut self) -> Vec<String> {
        let now = Instant::now();
        (0..self.load.outstanding).map(|_| self.ask(now)).collect()
    }

    /// Takes an answer; returns what is asked next.
    pub(crate) fn answered(&mut self, answer: &[u8], now: Instant) -> Result<Option<String>, Failure> {
        let number = std::str::from_utf8(answer).ok().and_then(|answer| self.load.payloads.recognise(answer));
        let asked = number.and_then(|number| self.waiting.remove(&number));
        let asked = asked.ok_or_else(|| format!("nothing waits for {}", String::from_utf8_lossy(answer)))?;
        if self.measured.contains(&now) {
            self.latencies.push(now - asked);
        }
        Ok((now < self.measured.end).then(|| self.ask(now)))
    }

    fn ask(&mut self, now: Instant) -> String {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert(number, now);
        self.load.payloads.render(number)
    }

    /// Whether everything is answered.
    pub(crate) fn are_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long each took whose answer came in the measured time.
    pub(crate) fn latencies(self) -> Vec<Duration> {
        self.latencies
    }
}
