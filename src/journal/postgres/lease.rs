//! That routers are there: each counts on as long as it lives. Apart from the turns, and never waiting for one.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgRow};

use crate::clock::Timestamp;
use crate::id::NodeId;
use crate::journal::postgres::error;
use crate::journal::row::Columns;
use crate::journal::{Beat, JournalError};

/// None of this takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) const BEATS: &str = "SELECT node, epoch, count FROM leases ORDER BY node";

pub(super) const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT AS now";

/// Connections for what the router itself asks besides its turns, so that no reader holds it up. Each text is sent whole, in
/// one round trip, which works behind any pooler.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    pub(super) pool: PgPool,
    pub(super) node: NodeId,
}

impl Leases {
    /// A predecessor of the same name counts until its successor is in the journal, which one that has only begun to count may
    /// never be; and never after.
    pub(super) async fn renew(&self, epoch: i64) -> Result<Vec<Beat>, JournalError> {
        let text = format!(
            "INSERT INTO leases (node, epoch, count, renewed_at)
             VALUES ({}, {epoch}, 1, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)
             ON CONFLICT (node) DO UPDATE
                 SET epoch = greatest(leases.epoch, excluded.epoch), count = leases.count + 1,
                     renewed_at = excluded.renewed_at
                 WHERE excluded.epoch >= (SELECT epoch FROM nodes WHERE code = leases.node);
             {BEATS}",
            self.node.0
        );
        self.ask(text).await?.iter().map(beat).collect()
    }

    pub(super) async fn beats(&self) -> Result<Vec<Beat>, JournalError> {
        self.ask(BEATS.to_owned()).await?.iter().map(beat).collect()
    }

    pub(super) async fn time(&self) -> Result<Timestamp, JournalError> {
        match &self.ask(TIME.to_owned()).await?[..] {
            [row] => Columns::of("now", row).time("now"),
            _ => Err(JournalError::Unavailable("the database does not tell the time".to_owned())),
        }
    }

    /// Writes, commits, and changes nothing.
    pub(super) async fn probe(&self) -> Result<(), JournalError> {
        let text = format!(
            "INSERT INTO leases (node, epoch, count, renewed_at) VALUES ({}, 0, 0, 0)
             ON CONFLICT (node) DO UPDATE SET count = leases.count",
            self.node.0
        );
        self.ask(text).await.map(drop)
    }

    async fn ask(&self, text: String) -> Result<Vec<PgRow>, JournalError> {
        let asked = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&self.pool);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(error::unavailable),
            Err(_) => Err(JournalError::Unavailable("the database does not answer".to_owned())),
        }
    }
}

fn beat(row: &PgRow) -> Result<Beat, JournalError> {
    let columns = Columns::of("leases", row);
    Ok(Beat {
        node: NodeId(columns.integer("node")?),
        epoch: columns.integer("epoch")?,
        count: columns.integer("count")?,
    })
}
