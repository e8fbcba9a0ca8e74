//! Whether the router does its work, and why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::code::ErrorCode;
use crate::journal::{Journal, JournalError};

/// For how long a commit, or a probe, says that the journal takes commits.
const FRESH: Duration = Duration::from_secs(5);

/// How long a probe may take before it says that the journal does not. It goes on; nobody waits for it in vain again within
/// [`FRESH`], and what it says in the end is heard.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the router is not ready: a code, and a sentence for an operator.
pub(super) type Ill = (ErrorCode, &'static str);

const NO_COMMITS: Ill =
    (ErrorCode::JournalUnavailable, "the journal takes no commits: look at its disk and at the log; it is tried again");
const WRONG_SCHEMA: Ill = (
    ErrorCode::JournalUnavailable,
    "the journal's schema is not the one of this version: another version has migrated it; stop this router and start that one",
);
const WRITER_ENDED: Ill = (ErrorCode::JournalUnavailable, "the writer has ended: this process is about to end too");
const DRAINING: Ill =
    (ErrorCode::ShuttingDown, "the router is draining: an operator asked for it; DELETE /v1/drain ends that");
const SHUTTING_DOWN: Ill = (ErrorCode::ShuttingDown, "the router is shutting down");

/// See the module. The writer tells what it sees; nobody asks it.
#[derive(Debug)]
pub(super) struct Health {
    started: Instant,
    /// When the last commit was on the disk, in milliseconds since `started`.
    committed: AtomicU64,
    /// The last commit that was tried succeeded.
    available: AtomicBool,
    draining: AtomicBool,
    shutting_down: AtomicBool,
    probe: Mutex<Probe>,
}

/// What the journal was last asked, by one for all.
#[derive(Debug, Default)]
struct Probe {
    running: Option<JoinHandle<Result<(), JournalError>>>,
    last: Option<(Instant, Result<(), Ill>)>,
}

impl Health {
    /// Of a router whose first commit is on the disk.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            committed: AtomicU64::new(0),
            available: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
            probe: Mutex::default(),
        }
    }

    /// A commit is on the disk.
    pub(super) fn committed(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.committed.store(since, Ordering::Release);
    }

    pub(super) fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Release);
    }

    pub(super) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Release);
    }

    pub(super) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
    }

    /// Whether what is sent to the router now is accepted. A journal that has nothing to do is asked whether it could; it is
    /// asked at most once in [`FRESH`], however many want to know.
    pub(super) async fn check(
        &self,
        writer_ended: bool,
        journal: &Arc<dyn Journal>,
        tasks: &TaskTracker,
    ) -> Result<(), Ill> {
        if self.shutting_down.load(Ordering::Acquire) {
            return Err(SHUTTING_DOWN);
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(DRAINING);
        }
        if writer_ended {
            return Err(WRITER_ENDED);
        }
        if !self.available.load(Ordering::Acquire) {
            return Err(NO_COMMITS);
        }
        let committed = self.started + Duration::from_millis(self.committed.load(Ordering::Acquire));
        if committed.elapsed() < FRESH {
            return Ok(());
        }
        let mut probe = self.probe.lock().await;
        match probe.last {
            Some((at, result)) if at.elapsed() < FRESH && !probe.has_come_back() => result,
            _ => probe.ask(journal, tasks).await,
        }
    }
}

impl Probe {
    /// One that was given up has an answer after all.
    fn has_come_back(&self) -> bool {
        self.running.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// The probe is a task of its own: an asker who goes away does not break it off.
    async fn ask(&mut self, journal: &Arc<dyn Journal>, tasks: &TaskTracker) -> Result<(), Ill> {
        let running = self.running.get_or_insert_with(|| {
            let journal = Arc::clone(journal);
            tasks.spawn(async move { journal.probe().await })
        });
        let result = match timeout(PATIENCE, &mut *running).await {
            Err(_) => Err(NO_COMMITS),
            Ok(probed) => {
                self.running = None;
                understand(probed)
            }
        };
        self.last = Some((Instant::now(), result));
        result
    }
}

fn understand(probed: Result<Result<(), JournalError>, JoinError>) -> Result<(), Ill> {
    match probed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(JournalError::Schema { .. })) => Err(WRONG_SCHEMA),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the journal failed its probe: the router is not ready");
            Err(NO_COMMITS)
        }
        Err(error) => {
            tracing::error!(%error, "the probe of the journal broke off: the router is not ready");
            Err(NO_COMMITS)
        }
    }
}
