//! The one connection that writes: turns, commits, and what became of a commit whose answer did not come.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::id::NodeId;
use crate::journal::postgres::commit;
use crate::journal::postgres::doubt;
use crate::journal::postgres::encode::{Encoded, Node};
use crate::journal::postgres::error;
use crate::journal::postgres::news::{self, Look, Looked, Seen};
use crate::journal::postgres::open::{self, Target};
use crate::journal::postgres::send::{Sent, send};
use crate::journal::postgres::whole::{self, Whole};
use crate::journal::row::Columns;
use crate::journal::{Batch, Head, JournalError, News, Restored};

/// Without being told, a router looks this often whether others have committed.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// For so long after others were seen to commit, a turn begins with a look at what they have: it is lost otherwise.
const BUSY: Duration = Duration::from_millis(500);

/// For so long after a turn was lost in spite of that, a turn locks the head from its beginning: it would be lost again.
const CONTENDED: Duration = Duration::from_millis(500);

/// A router that has looked more recently is behind by little, and may read that while it holds up the others.
const FRESH: Duration = Duration::from_millis(50);

/// A statement whose answer takes longer gets none: the server ends it sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// And so much longer once the router closes.
const HURRIED: Duration = Duration::from_secs(2);

/// The same, where everything is read.
const LONG: Duration = Duration::from_mins(2);

/// So often a router reads everything while others go on, and finds that they are too far ahead again. Then they wait for it
/// to read.
const GLANCES: u32 = 3;

/// How the present turn is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is none, or nothing keeps others from committing first.
    Open,
    /// A transaction is open that holds the head.
    Held,
    /// The same, after everything was read: what follows may take longer.
    Long,
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
    /// When another was last seen to have committed.
    busy: Option<Instant>,
    /// When a turn was last lost to another that had begun with a look.
    contended: Option<Instant>,
    /// This turn began with one.
    looked_first: bool,
    /// The last turn was lost to another: the next one holds the head.
    moved: bool,
    /// There may be something beyond `seen`, whenever that was looked at.
    behind: bool,
    /// So often in a row it was so far behind that everything had to be read.
    far: u32,
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
            busy: None,
            contended: None,
            looked_first: false,
            moved: false,
            behind: false,
            far: 0,
            closing,
        }
    }

    /// When it was last known that nobody else had committed.
    pub(super) const fn looked(&self) -> Instant {
        self.looked
    }

    /// Begins the first turn, which its commit ends. Everything is read before, while nobody is held up, and what others have
    /// committed meanwhile in the turn. If that is too much again and again, everything is read in the turn.
    pub(super) async fn restore(&mut self) -> Result<Restored, JournalError> {
        self.pass().await;
        let mut connection = self.connect().await?;
        let (node, mut glances) = (NodeId(self.node.code), 0);
        let whole = loop {
            if glances == GLANCES {
                break whole::hold(&mut connection, &self.target).await?;
            }
            glances += 1;
            let mut whole = whole::read(&mut connection, &self.target).await?;
            let looked = news::look(&mut connection, &self.target, node, whole.standing.seen, Look::Hold).await?;
            if let Some(news) = looked.news {
                execute(&mut connection, whole::PATIENT).await?;
                whole.follow(looked.standing, news);
                break whole;
            }
            execute(&mut connection, "ROLLBACK").await?;
        };
        self.connection = Some(connection);
        self.turn = Turn::Long;
        self.follow(whole.standing.seen);
        self.restored(whole)
    }

    fn restored(&self, whole: Whole) -> Result<Restored, JournalError> {
        let code = NodeId(self.node.code);
        let node = whole.nodes.iter().find(|row| row.node == code).cloned().ok_or_else(|| JournalError::Damaged {
            table: "nodes",
            column: "code",
            what: "this router's row is gone".to_owned(),
        })?;
        Ok(Restored {
            head: whole.standing.seen.head,
            agents: whole.agents,
            sessions: whole.sessions,
            unsettled: whole.unsettled,
            feed_acknowledged: whole.standing.feed,
            pruned: whole.standing.pruned,
            nodes: whole.nodes,
            node,
            alone: false,
        })
    }

    /// Begins a turn. A router that is alone pays nothing for it: its commit fails if it was not.
    pub(super) async fn begin(&mut self, told: bool) -> Result<Option<News>, JournalError> {
        self.pass().await;
        let since = self.looked.elapsed();
        let contended = self.contended.is_some_and(|at| at.elapsed() < CONTENDED);
        let busy = self.busy.is_some_and(|at| at.elapsed() < BUSY);
        self.behind |= told || since >= POLL;
        self.looked_first = self.behind || self.moved || contended || busy;
        if !self.looked_first {
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

    async fn look(&mut self, look: Look) -> Result<Option<News>, JournalError> {
        let mut connection = self.connect().await?;
        let (target, node, from) = (&self.target, NodeId(self.node.code), self.seen);
        let looking = news::look(&mut connection, target, node, from, look);
        let Looked { standing, news } =
            within(&self.closing, PATIENCE, looking).await.unwrap_or_else(|| Err(silent()))?;
        let (turn, seen, news) = if let Some(news) = news {
            self.far = 0;
            let turn = if look == Look::Hold { Turn::Held } else { Turn::Open };
            (turn, standing.seen, news)
        } else {
            // Everything is to be read: that takes long, and the others are not held up meanwhile unless nothing else helps.
            let waits = self.far == GLANCES;
            let reading = async {
                if look == Look::Hold {
                    execute(&mut connection, "ROLLBACK").await?;
                }
                let reading = &mut connection;
                if waits { whole::hold(reading, target).await } else { whole::read(reading, target).await }
            };
            let whole = within(&self.closing, LONG, reading).await.unwrap_or_else(|| Err(silent()))?;
            self.far = if waits { 0 } else { self.far + 1 };
            // A turn that is lost after a glance is not the second in a row.
            self.moved = false;
            (if waits { Turn::Long } else { Turn::Open }, whole.standing.seen, whole.into_news())
        };
        self.connection = Some(connection);
        self.turn = turn;
        self.follow(seen);
        if seen != from {
            self.busy = Some(Instant::now());
        }
        Ok((seen != from).then_some(news))
    }

    fn follow(&mut self, seen: Seen) {
        self.seen = seen;
        self.looked = Instant::now();
        self.behind = false;
    }

    /// Whether nobody has committed since the turn began. A turn that is lost with its connection is begun anew as well.
    pub(super) async fn confirm(&mut self) -> Result<(), JournalError> {
        let connection = match self.connection.take() {
            None if self.turn == Turn::Open => self.open().await.ok(),
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
        if std::mem::replace(&mut self.turn, Turn::Open) == Turn::Open {
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
        let arguments = commit::arguments(&encoded, self.seen.revision, &self.seen.head, &self.node)?;
        let again = std::mem::replace(&mut self.moved, false);
        let turn = std::mem::replace(&mut self.turn, Turn::Open);
        // Whatever is not known to be on the disk below is looked for when the next turn begins.
        self.behind = true;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            // What held the head is lost, and its turn.
            None if turn != Turn::Open => return self.lost(again),
            None => self.open().await?,
        };
        let sending = send(&mut connection, &self.target, batch, arguments, turn != Turn::Open);
        let silence = || Sent::InDoubt(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let patience = if turn == Turn::Long { LONG } else { PATIENCE };
        match within(&self.closing, patience, sending).await.unwrap_or_else(silence) {
            Sent::Committed => {
                self.connection = Some(connection);
                Ok(self.committed(encoded.head))
            }
            Sent::Moved => {
                if turn == Turn::Open {
                    self.connection = Some(connection);
                    self.busy = Some(Instant::now());
                    if self.looked_first {
                        self.contended = self.busy;
                    }
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
        self.far = 0;
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
            None => self.open().await,
        }
    }

    async fn open(&self) -> Result<PgConnection, JournalError> {
        let mut connection = open::writer(&self.target).await?;
        news::prepare(&mut connection, &self.target).await?;
        Ok(connection)
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
