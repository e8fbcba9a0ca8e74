//! How a batch is sent, and what is known of it at once.
//!
//! A router that is alone sends one statement, which commits by itself: one round trip. In a turn that holds the head,
//! behind a pooler, or with more to do than one statement can, it is a transaction.

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::journal::Batch;
use crate::journal::postgres::commit::{COMMIT, PLAIN};
use crate::journal::postgres::open::Target;
use crate::journal::postgres::{error, upkeep};

/// What came of sending a batch.
pub(super) enum Sent {
    Committed,
    /// Another was faster, or the turn was lost before anything was committed.
    Moved,
    Refused(sqlx::Error),
    InDoubt(sqlx::Error),
}

/// Sends a batch; `held` says that a transaction is open that holds the head. Without an answer nobody knows.
pub(super) async fn send(
    connection: &mut PgConnection,
    target: &Target,
    batch: &Batch,
    arguments: PgArguments,
    held: bool,
) -> Sent {
    let named = !target.pooled;
    let alone = !held && named && !upkeep::is_due(batch);
    if !held
        && !alone
        && let Err(error) = sqlx::raw_sql(AssertSqlSafe(target.begin(""))).execute(&mut *connection).await
    {
        return before(error);
    }
    let text = if batch.is_plain() { *PLAIN } else { *COMMIT };
    let row = sqlx::query_with(text, arguments).persistent(named).fetch_one(&mut *connection).await;
    let won = match row {
        Ok(row) => match row.try_get::<i64, _>("won") {
            Ok(won) => won == 1,
            Err(error) => return Sent::InDoubt(error),
        },
        Err(error) if error::is_refusal(&error) => return Sent::Refused(error),
        Err(error) if alone => return Sent::InDoubt(error),
        Err(error) => return before(error),
    };
    if alone {
        return if won { Sent::Committed } else { Sent::Moved };
    }
    if !won {
        let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        return rolled_back.map_or_else(before, |_| Sent::Moved);
    }
    if let Err(error) = upkeep::perform(connection, batch).await {
        return before(error);
    }
    match sqlx::raw_sql("COMMIT").execute(connection).await {
        Ok(_) => Sent::Committed,
        Err(error) if error::is_refusal(&error) => Sent::Refused(error),
        Err(error) => Sent::InDoubt(error),
    }
}

/// What went wrong in a transaction before it was asked to commit: it never will.
fn before(error: sqlx::Error) -> Sent {
    if error::is_refusal(&error) { Sent::Refused(error) } else { Sent::Moved }
}
