//! What the router counts and times, for operators, in the text format of Prometheus.
//!
//! Counters and times are this router's own, as are sockets; how much is open, queued and in flight is of the whole journal,
//! the same on each router that shares it.
//!
//! Names begin with `agent_router_` and end in their unit, counters in `_total`. Nothing is counted by agent, caller or
//! path: what peers choose must not decide how much there is to count. Imports nothing of the crate.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

/// Whose a socket is.
const ROLES: [&str; 4] = ["agent", "backend", "master_agent", "invoke"];

/// What becomes of an invocation.
const OUTCOMES: [&str; 6] = ["accepted", "completed", "failed", "expired", "timed_out", "cancelled"];

/// The methods that are told apart; a peer may write anything for one.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// How long an answer may take, in seconds: agents work for milliseconds or for minutes.
const ANSWER_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0];

/// How long an HTTP request may take, in seconds; those that wait take up to a minute.
const REQUEST_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Every metric of the process. Created once; counting never waits.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: IntGaugeVec,
    sockets_closed: IntCounterVec,
    frames_received: IntCounter,
    frames_refused: IntCounter,
    connections_refused: IntCounter,
    invocations: IntCounterVec,
    invocations_refused: IntCounterVec,
    deliveries: IntCounter,
    redeliveries: IntCounter,
    open: IntGauge,
    queued: IntGauge,
    queue_oldest_age: Gauge,
    in_flight: IntGauge,
    answer_latency: Histogram,
    waiters: IntGauge,
    commit_duration: Histogram,
    commit_events: Histogram,
    commit_failures: IntCounter,
    journal_position: IntGauge,
    journal_available: IntGauge,
    nodes: IntGauge,
    http_requests: IntCounterVec,
    http_durations: HistogramVec,
}

/// What a batch amounts to, counted in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is how often what it is called happened")]
pub struct Tally {
    pub accepted: u64,
    pub completed: u64,
    pub failed: u64,
    pub expired: u64,
    pub timed_out: u64,
    pub cancelled: u64,
    pub deliveries: u64,
    pub redeliveries: u64,
    pub frames_refused: u64,
    pub connections_refused: u64,
}

/// What there is to do at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Sockets, by role: agents' and callers' own, the backend's, the master agent's, invoke sockets.
    pub connections: [usize; 4],
    /// Invocations that are not finished.
    pub open: usize,
    /// Those of them that wait for their agents.
    pub queued: usize,
    /// How long the longest waiting one has waited.
    pub oldest_age: Duration,
    /// Those that were sent and are not answered.
    pub in_flight: usize,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let of = Registering(&registry);
        let build = of.gauges("build_info", "Always 1, labelled with the version of this router.", "version");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            connections: of.gauges("connections", "WebSockets that are open here, by whose they are.", "role"),
            sockets_closed: of.counters("sockets_closed_total", "WebSockets that ended, by reason.", &["reason"]),
            frames_received: of.counter("frames_received_total", "Text frames that peers sent."),
            frames_refused: of.counter("frames_refused_total", "Frames that made no sense."),
            connections_refused: of.counter("connections_refused_total", "Connections and requests turned away."),
            invocations: of.counters(
                "invocations_total",
                "Invocations that were accepted, and that ended, by how.",
                &["outcome"],
            ),
            invocations_refused: of.counters(
                "invocations_refused_total",
                "Invocations and cancels that were refused, by error code.",
                &["code"],
            ),
            deliveries: of.counter("deliveries_total", "Invocations sent to agents, each time counted."),
            redeliveries: of.counter("redeliveries_total", "Deliveries that were not the first of their invocation."),
            open: of.gauge(
                "invocations_open",
                "Invocations that are not finished, whichever router on the journal has them.",
            ),
            queued: of.gauge("queued", "Invocations that wait for their agents, wherever those are."),
            queue_oldest_age: of.seconds("queue_oldest_age_seconds", "How long the longest waiting one has waited."),
            in_flight: of
                .gauge("in_flight", "Invocations that were sent and are not answered, whichever router sent them."),
            answer_latency: of.histogram(
                "answer_latency_seconds",
                "From the acceptance of an invocation to its agent's answer.",
                ANSWER_BUCKETS.to_vec(),
            ),
            waiters: of.gauge("waiters", "HTTP requests that wait for the end of an invocation."),
            commit_duration: of.histogram("commit_duration_seconds", "How long a commit took.", doubling(0.000_25, 16)),
            commit_events: of.histogram("commit_events", "Events in a commit.", doubling(1.0, 14)),
            commit_failures: of.counter("commit_failures_total", "Commits that the journal did not take."),
            journal_position: of.gauge("journal_position", "The place of the newest event."),
            journal_available: of.gauge("journal_available", "Whether the journal took the last commit: 1 or 0."),
            nodes: of.gauge("nodes", "Routers on the journal that renew their leases, this one included."),
            http_requests: of.counters(
                "http_requests_total",
                "HTTP requests that were answered.",
                &["method", "route", "status"],
            ),
            http_durations: of.histograms(
                "http_request_duration_seconds",
                "How long the answer to an HTTP request took to begin.",
                "route",
                REQUEST_BUCKETS.to_vec(),
            ),
            registry,
        };
        for role in ROLES {
            metrics.connections.with_label_values(&[role]).set(0);
        }
        for outcome in OUTCOMES {
            metrics.invocations.with_label_values(&[outcome]).inc_by(0);
        }
        metrics.journal_available.set(1);
        metrics.nodes.set(1);
        metrics.watch_process();
        metrics
    }

    /// One HTTP request was answered. `route` is the pattern, not the path.
    pub fn http_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.http_requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.http_durations.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// A text frame came in.
    pub fn frame_received(&self) {
        self.frames_received.inc();
    }

    /// A socket ended.
    pub fn socket_closed(&self, reason: &str) {
        self.sockets_closed.with_label_values(&[reason]).inc();
    }

    /// Invocations, or cancels, were refused.
    pub fn invocations_refused(&self, code: &str, count: u64) {
        self.invocations_refused.with_label_values(&[code]).inc_by(count);
    }

    /// What a batch amounted to.
    pub fn add(&self, tally: &Tally) {
        let ends = [tally.completed, tally.failed, tally.expired, tally.timed_out, tally.cancelled];
        for (outcome, count) in OUTCOMES.into_iter().zip([tally.accepted].into_iter().chain(ends)) {
            if count > 0 {
                self.invocations.with_label_values(&[outcome]).inc_by(count);
            }
        }
        self.deliveries.inc_by(tally.deliveries);
        self.redeliveries.inc_by(tally.redeliveries);
        self.frames_refused.inc_by(tally.frames_refused);
        self.connections_refused.inc_by(tally.connections_refused);
    }

    /// An agent answered, so long after the invocation was accepted.
    pub fn answered(&self, after: Duration) {
        self.answer_latency.observe(after.as_secs_f64());
    }

    /// A commit with so many events is on the disk, the last of them at `position`.
    pub fn committed(&self, events: usize, position: i64, took: Duration) {
        self.commit_duration.observe(took.as_secs_f64());
        self.commit_events.observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
        self.journal_position.set(position);
    }

    /// Other routers have committed up to `position`.
    pub fn followed(&self, position: i64) {
        self.journal_position.set(position);
    }

    /// The journal did not take a commit.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// Whether the journal takes commits.
    pub fn set_available(&self, available: bool) {
        self.journal_available.set(i64::from(available));
    }

    /// So many routers are there, this one included.
    pub fn set_nodes(&self, count: usize) {
        self.nodes.set(signed(count));
    }

    /// Somebody waits for the end of an invocation.
    pub fn waiter_came(&self) {
        self.waiters.inc();
    }

    /// Somebody waits no longer.
    pub fn waiter_went(&self) {
        self.waiters.dec();
    }

    /// What there is to do now.
    pub fn set_standing(&self, standing: &Standing) {
        for (role, count) in ROLES.into_iter().zip(standing.connections) {
            self.connections.with_label_values(&[role]).set(signed(count));
        }
        self.open.set(signed(standing.open));
        self.queued.set(signed(standing.queued));
        self.queue_oldest_age.set(standing.oldest_age.as_secs_f64());
        self.in_flight.set(signed(standing.in_flight));
    }

    /// All of them, in the text format, version 0.0.4. The gauges of what there is to do are as of the last
    /// [`Self::set_standing`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "a metric cannot be written as text; the rest is left out");
        }
        text
    }

    /// What the operating system knows of the process, under the names that are usual for that.
    fn watch_process(&self) {
        #[cfg(target_os = "linux")]
        Registering(&self.registry).know(prometheus::process_collector::ProcessCollector::for_self());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes metrics known to a registry. Their names are constants, so that a wrong one is found by any test.
struct Registering<'a>(&'a Registry);

impl Registering<'_> {
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(options(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(options(name, help), &[label]))
    }

    fn seconds(&self, name: &str, help: &str) -> Gauge {
        self.keep(Gauge::with_opts(options(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
        self.keep(Histogram::with_opts(HistogramOpts::from(options(name, help)).buckets(buckets)))
    }

    fn histograms(&self, name: &str, help: &str, label: &str, buckets: Vec<f64>) -> HistogramVec {
        self.keep(HistogramVec::new(HistogramOpts::from(options(name, help)).buckets(buckets), &[label]))
    }

    fn keep<C: Collector + Clone + 'static>(&self, metric: Result<C, Error>) -> C {
        let metric = metric.expect("the options of a metric are valid");
        self.know(metric.clone());
        metric
    }

    fn know(&self, metric: impl Collector + 'static) {
        self.0.register(Box::new(metric)).expect("each metric has a name of its own");
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("agent_router")
}

/// Bucket bounds from `first` on, each twice the one before.
fn doubling(first: f64, count: usize) -> Vec<f64> {
    exponential_buckets(first, 2.0, count).expect("the bounds ascend")
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_as_usual_and_says_what_it_is() {
        let metrics = Metrics::new();
        metrics.http_request("GET", "/v1/agents", 200, Duration::from_millis(1));
        metrics.socket_closed("closed");
        metrics.invocations_refused("queue_full", 1);
        let text = metrics.render();
        let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        assert!(types.len() > 20, "{text}");
        for (name, kind) in types {
            assert!(name.starts_with("agent_router_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert!(text.contains("agent_router_build_info{version=\""), "{text}");
    }

    #[test]
    fn a_method_that_a_peer_made_up_is_no_label() {
        let metrics = Metrics::new();
        metrics.http_request("BREW", "/v1/agents", 405, Duration::ZERO);
        let text = metrics.render();
        let counted = "agent_router_http_requests_total{method=\"other\",route=\"/v1/agents\",status=\"405\"} 1\n";
        assert!(text.contains(counted) && !text.contains("BREW"), "{text}");
    }
}
