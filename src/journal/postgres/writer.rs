//! The one connection that writes: turns, commits, and what became of a commit whose answer did not come.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::id::NodeId;
use crate::journal::postgres::commit;
use crate::journal::postgres::doubt;
use crate::journal::postgres::encode::{Encoded, Node};
use crate::journal::postgres::error;
use crate::journal::postgres::news::{self, Look, Seen};
use crate::journal::postgres::open::{self, Target};
use crate::journal::postgres::send::{Sent, send};
use crate::journal::row::Columns;
use crate::journal::{Batch, Head, JournalError, News, Restored};

/// Without being told, a router looks this often whether others have committed.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// For so long after a turn was lost to another router, a turn locks the head from its beginning: it would be lost again.
const CONTENDED: Duration = Duration::from_millis(500);

/// A router that has looked more recently is behind by little, and may read that while it holds up the others.
const FRESH: Duration = Duration::from_millis(50);

/// A statement whose answer takes longer gets none: the server ends it sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// And so much longer once the router closes.
const HURRIED: Duration = Duration::from_secs(2);

/// The same, where everything is read.
const LONG: Duration = Duration::from_mins(2);

/// What the turn that a restart begins may take until its commit: a router reads and decides everything in it. Reading
/// everything later may take as long.
const RESTORING: &str = "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL statement_timeout = '120s'";

/// How the present turn is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is none, or nothing keeps others from committing first.
    Open,
    /// A transaction is open that holds the head.
    Held,
}

/// The connection that writes, and how far it has followed the journal.
pub(super) struct Writer {
    target: Target,
    /// `None` while it is lost, and while it is in use: whoever stops waiting in the middle of a statement loses it.
    connection: Option<PgConnection>,
    node: Node,
    seen: Seen,
    turn: Turn,
    /// When it was last known that nobody had committed beyond `seen`.
    looked: Instant,
    /// When a turn was last lost to another.
    contended: Option<Instant>,
    /// The last turn was lost to another: the next one holds the head.
    moved: bool,
    /// There may be something beyond `seen`, whenever that was looked at.
    behind: bool,
    /// Nobody waits for an uncertain commit any more.
    closing: CancellationToken,
}

impl Writer {
    pub(super) fn new(
        target: Target,
        connection: PgConnection,
        node: Node,
        seen: Seen,
        closing: CancellationToken,
    ) -> Self {
        let looked = Instant::now();
        Self {
            target,
            connection: Some(connection),
            node,
            seen,
            turn: Turn::Open,
            looked,
            contended: None,
            moved: false,
            behind: false,
            closing,
        }
    }

    /// When it was last known that nobody else had committed.
    pub(super) const fn looked(&self) -> Instant {
        self.looked
    }

    /// Reads everything, in a turn that its commit ends.
    pub(super) async fn restore(&mut self) -> Result<Restored, JournalError> {
        self.pass().await;
        let mut connection = self.connect().await?;
        let standing = news::stand(&mut connection, &self.target, self.seen, Look::Hold).await?;
        sqlx::raw_sql(RESTORING).execute(&mut connection).await.map_err(error::unavailable)?;
        let all = news::everything(&mut connection).await?;
        let code = NodeId(self.node.code);
        let node = all.nodes.iter().find(|row| row.node == code).cloned().ok_or_else(|| JournalError::Damaged {
            table: "nodes",
            column: "code",
            what: "this router's row is gone".to_owned(),
        })?;
        self.connection = Some(connection);
        self.turn = Turn::Held;
        self.follow(standing.seen);
        Ok(Restored {
            head: standing.seen.head,
            agents: all.agents,
            sessions: all.sessions,
            unsettled: all.unsettled,
            feed_acknowledged: standing.feed,
            pruned: standing.pruned,
            nodes: all.nodes,
            node,
            alone: false,
        })
    }

    /// Begins a turn. A router that is alone pays nothing for it: its commit fails if it was not.
    pub(super) async fn begin(&mut self, told: bool) -> Result<Option<News>, JournalError> {
        self.pass().await;
        let since = self.looked.elapsed();
        let contended = self.contended.is_some_and(|at| at.elapsed() < CONTENDED);
        self.behind |= told || since >= POLL;
        if !self.behind && !self.moved && !contended {
            return Ok(None);
        }
        let look = if self.moved || (contended && since < FRESH) { Look::Hold } else { Look::Glance };
        let had = self.connection.is_some();
        match self.look(look).await {
            // The connection was lost while nobody used it, most likely.
            Err(JournalError::Unavailable(_)) if had => self.look(look).await,
            other => other,
        }
    }

    async fn look(&mut self, mut look: Look) -> Result<Option<News>, JournalError> {
        let mut connection = self.connect().await?;
        let (target, from) = (&self.target, self.seen);
        let standing = async {
            let standing = news::stand(&mut connection, target, from, look).await?;
            if look == Look::Glance || !standing.is_far(from) {
                return Ok(standing);
            }
            // Everything is to be read: that takes long, and the others are not held up meanwhile.
            execute(&mut connection, "ROLLBACK").await?;
            look = Look::Glance;
            self.moved = false;
            news::stand(&mut connection, target, from, look).await
        };
        let standing = within(&self.closing, PATIENCE, standing).await.unwrap_or_else(|| Err(silent()))?;
        let (seen, is_far) = (standing.seen, standing.is_far(from));
        let reading = async {
            if is_far {
                execute(&mut connection, RESTORING).await?;
            }
            let mut news = None;
            if seen != from {
                news = Some(news::read(&mut connection, target, from, standing).await?);
            }
            if look == Look::Glance {
                execute(&mut connection, "COMMIT").await?;
            }
            Ok(news)
        };
        let patience = if is_far { LONG } else { PATIENCE };
        let news = within(&self.closing, patience, reading).await.unwrap_or_else(|| Err(silent()))?;
        self.connection = Some(connection);
        if look == Look::Hold {
            self.turn = Turn::Held;
        }
        self.follow(seen);
        Ok(news)
    }

    fn follow(&mut self, seen: Seen) {
        self.seen = seen;
        self.looked = Instant::now();
        self.behind = false;
    }

    /// Whether nobody has committed since the turn began. A turn that is lost with its connection is begun anew as well.
    pub(super) async fn confirm(&mut self) -> Result<(), JournalError> {
        let connection = match self.connection.take() {
            None if self.turn == Turn::Open => open::writer(&self.target).await.ok(),
            connection => connection,
        };
        if let Some(mut connection) = connection
            && let Some(Ok(seen)) = within(&self.closing, PATIENCE, standing(&mut connection)).await
        {
            self.connection = Some(connection);
            if seen.revision == self.seen.revision {
                self.looked = Instant::now();
                return Ok(());
            }
        }
        self.pass().await;
        self.moved = true;
        Err(JournalError::Moved)
    }

    /// Ends a turn in which nothing was committed.
    pub(super) async fn pass(&mut self) {
        if std::mem::replace(&mut self.turn, Turn::Open) != Turn::Held {
            return;
        }
        // Nobody could be faster.
        self.moved = false;
        if let Some(mut connection) = self.connection.take()
            && let Some(Ok(_)) =
                within(&self.closing, PATIENCE, sqlx::raw_sql("ROLLBACK").execute(&mut connection)).await
        {
            self.connection = Some(connection);
        }
    }

    /// Commits the batch. It returns when it is known what became of it.
    pub(super) async fn commit(&mut self, batch: &Batch) -> Result<Head, JournalError> {
        let encoded = Encoded::new(batch, self.seen.head, &self.node)?;
        let arguments = commit::arguments(batch, &encoded, self.seen.revision, &self.seen.head, &self.node)?;
        let again = std::mem::replace(&mut self.moved, false);
        let turn = std::mem::replace(&mut self.turn, Turn::Open);
        // Whatever is not known to be on the disk below is looked for when the next turn begins.
        self.behind = true;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            // What held the head is lost, and its turn.
            None if turn == Turn::Held => return self.lost(again),
            None => open::writer(&self.target).await?,
        };
        let sending = send(&mut connection, &self.target, batch, arguments, turn == Turn::Held);
        let silence = || Sent::InDoubt(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        match within(&self.closing, PATIENCE, sending).await.unwrap_or_else(silence) {
            Sent::Committed => {
                self.connection = Some(connection);
                Ok(self.committed(encoded.head))
            }
            Sent::Moved => {
                if turn == Turn::Open {
                    self.connection = Some(connection);
                    self.contended = Some(Instant::now());
                }
                self.lost(again)
            }
            Sent::Refused(error) if error::is_impossible(&error) => Err(JournalError::Damaged {
                table: "journal_head",
                column: "position",
                what: "it is not where this router left it".to_owned(),
            }),
            Sent::Refused(error) => Err(error::unavailable(error)),
            Sent::InDoubt(error) => {
                drop(connection);
                let began = Instant::now();
                let what = doubt::Attempt { after: self.seen, head: encoded.head, node: self.node.code };
                match doubt::resolve(&self.target, what, &self.closing).await {
                    None => Err(JournalError::Uncertain(error::describe(&error))),
                    Some(true) => {
                        let committed = self.committed(encoded.head);
                        self.behind = true;
                        Ok(committed)
                    }
                    // The database is there: the connection was lost while nobody used it, most likely.
                    Some(false) if began.elapsed() < POLL => self.lost(again),
                    Some(false) => Err(error::unavailable(error)),
                }
            }
        }
    }

    fn committed(&mut self, head: Head) -> Head {
        self.follow(Seen { revision: self.seen.revision + 1, head });
        head
    }

    /// The turn was lost; a second time in a row it is the database's fault.
    fn lost(&mut self, again: bool) -> Result<Head, JournalError> {
        if again {
            return Err(JournalError::Unavailable(
                "two turns in a row were lost, with the connection to the database".to_owned(),
            ));
        }
        self.moved = true;
        Err(JournalError::Moved)
    }

    async fn connect(&mut self) -> Result<PgConnection, JournalError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => open::writer(&self.target).await,
        }
    }

    pub(super) async fn close(mut self) {
        self.pass().await;
        if let Some(connection) = self.connection.take() {
            open::close(connection).await;
        }
    }
}

/// Waits as long as an answer may take; not as long once the router closes.
async fn within<T>(closing: &CancellationToken, patience: Duration, asked: impl Future<Output = T>) -> Option<T> {
    let hurried = async {
        closing.cancelled().await;
        tokio::time::sleep(HURRIED).await;
    };
    tokio::select! {
        answer = asked => Some(answer),
        () = tokio::time::sleep(patience) => None,
        () = hurried => None,
    }
}

/// Has the server execute a text that has no rows.
async fn execute(connection: &mut PgConnection, text: &'static str) -> Result<(), JournalError> {
    sqlx::raw_sql(text).execute(connection).await.map(drop).map_err(error::unavailable)
}

fn silent() -> JournalError {
    JournalError::Unavailable("the database does not answer".to_owned())
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("node", &self.node).field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Where the journal stands, for a router that has not followed it yet.
pub(super) async fn standing(connection: &mut PgConnection) -> Result<Seen, JournalError> {
    let text = "SELECT revision, position, hash FROM journal_head";
    let row = sqlx::raw_sql(text).fetch_one(connection).await.map_err(error::unavailable)?;
    let revision = Columns::of("journal_head", &row).integer("revision")?;
    Ok(Seen { revision, head: crate::journal::row::head(&row)? })
}
