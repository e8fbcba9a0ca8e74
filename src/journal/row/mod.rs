//! Rows as the types of the contract, the same on every back end. A row that cannot be is an error with its table and column.
//!
//! A back end says how a column of its rows is read ([`Cells`]); what the columns amount to is written here, once.

mod event;
mod invocation;
mod peer;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{Identity, InvocationId, Position, SessionId};
use crate::journal::JournalError;

pub(super) use event::{event, feed_event, head};
pub(super) use invocation::{invocation, origin_code, record, reply_code};
pub(super) use peer::{agent, agent_record, node, node_record, session};

/// A column is missing, or of another type.
#[derive(Debug)]
pub(super) struct WrongType;

/// A row of a back end; `None` is NULL.
pub(super) trait Cells {
    fn integer(&self, column: &str) -> Result<Option<i64>, WrongType>;
    fn text(&self, column: &str) -> Result<Option<&str>, WrongType>;
    fn bytes(&self, column: &str) -> Result<Option<Cow<'_, [u8]>>, WrongType>;
    fn uuid(&self, column: &str) -> Result<Option<Uuid>, WrongType>;
}

/// A row, and the table that it is of.
pub(super) struct Columns<'a> {
    table: &'static str,
    row: &'a dyn Cells,
}

impl<'a> Columns<'a> {
    pub(super) const fn of(table: &'static str, row: &'a dyn Cells) -> Self {
        Self { table, row }
    }

    pub(super) fn damaged(&self, column: &'static str, what: impl Into<String>) -> JournalError {
        JournalError::Damaged { table: self.table, column, what: what.into() }
    }

    fn typed<T>(&self, column: &'static str, value: Result<T, WrongType>) -> Result<T, JournalError> {
        value.map_err(|WrongType| self.damaged(column, "is of another type"))
    }

    pub(super) fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, JournalError> {
        self.typed(column, self.row.integer(column))
    }

    pub(super) fn integer(&self, column: &'static str) -> Result<i64, JournalError> {
        self.required(column, self.optional_integer(column)?)
    }

    pub(super) fn optional_text(&self, column: &'static str) -> Result<Option<&'a str>, JournalError> {
        self.typed(column, self.row.text(column))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'a str, JournalError> {
        self.required(column, self.optional_text(column)?)
    }

    pub(super) fn shared_text(&self, column: &'static str) -> Result<Option<Arc<str>>, JournalError> {
        Ok(self.optional_text(column)?.map(Arc::from))
    }

    pub(super) fn position(&self, column: &'static str) -> Result<Position, JournalError> {
        self.integer(column).map(Position)
    }

    pub(super) fn optional_position(&self, column: &'static str) -> Result<Option<Position>, JournalError> {
        Ok(self.optional_integer(column)?.map(Position))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, JournalError> {
        self.integer(column).map(Timestamp::from_micros)
    }

    pub(super) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>, JournalError> {
        Ok(self.optional_integer(column)?.map(Timestamp::from_micros))
    }

    /// A number of a smaller type than the 64 bits of the column.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, JournalError> {
        let number = self.optional_number(column)?;
        self.required(column, number)
    }

    pub(super) fn optional_number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, JournalError> {
        let Some(number) = self.optional_integer(column)? else { return Ok(None) };
        T::try_from(number).map(Some).map_err(|_| self.damaged(column, format!("is {number}")))
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, JournalError> {
        match self.integer(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.damaged(column, format!("is {other}, not 0 or 1"))),
        }
    }

    pub(super) fn cell(&self, column: &'static str) -> Result<Option<Cow<'a, [u8]>>, JournalError> {
        self.typed(column, self.row.bytes(column))
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<Option<Bytes>, JournalError> {
        Ok(self.cell(column)?.map(|bytes| Bytes::from(bytes.into_owned())))
    }

    fn array<const N: usize>(&self, column: &'static str) -> Result<Option<[u8; N]>, JournalError> {
        let Some(bytes) = self.cell(column)? else { return Ok(None) };
        bytes.as_ref().try_into().map(Some).map_err(|_| self.damaged(column, format!("is not {N} bytes")))
    }

    pub(super) fn digest(&self, column: &'static str) -> Result<[u8; 32], JournalError> {
        self.required(column, self.array(column)?)
    }

    pub(super) fn optional_digest(&self, column: &'static str) -> Result<Option<[u8; 32]>, JournalError> {
        self.array(column)
    }

    pub(super) fn salt(&self, column: &'static str) -> Result<Option<[u8; 16]>, JournalError> {
        self.array(column)
    }

    pub(super) fn uuid(&self, column: &'static str) -> Result<Option<Uuid>, JournalError> {
        self.typed(column, self.row.uuid(column))
    }

    pub(super) fn session(&self, column: &'static str) -> Result<Option<SessionId>, JournalError> {
        Ok(self.uuid(column)?.map(SessionId))
    }

    pub(super) fn invocation_id(&self, column: &'static str) -> Result<Option<InvocationId>, JournalError> {
        Ok(self.uuid(column)?.map(InvocationId))
    }

    /// A value that must be there.
    pub(super) fn required<T>(&self, column: &'static str, value: Option<T>) -> Result<T, JournalError> {
        value.ok_or_else(|| self.damaged(column, "is missing"))
    }

    pub(super) fn identity(&self, column: &'static str) -> Result<Identity, JournalError> {
        let identity = self.optional_identity(column)?;
        self.required(column, identity)
    }

    pub(super) fn optional_identity(&self, column: &'static str) -> Result<Option<Identity>, JournalError> {
        let Some(name) = self.optional_text(column)? else { return Ok(None) };
        Identity::new(name).map(Some).map_err(|error| self.damaged(column, error.to_string()))
    }
}
