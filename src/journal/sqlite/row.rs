//! How the columns of a row are read.

use std::borrow::Cow;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::journal::row::{Cells, WrongType};

impl Cells for SqliteRow {
    fn integer(&self, column: &str) -> Result<Option<i64>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn text(&self, column: &str) -> Result<Option<&str>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn bytes(&self, column: &str) -> Result<Option<Cow<'_, [u8]>>, WrongType> {
        let bytes: Option<&[u8]> = self.try_get(column).map_err(|_| WrongType)?;
        Ok(bytes.map(Cow::Borrowed))
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, WrongType> {
        let bytes: Option<&[u8]> = self.try_get(column).map_err(|_| WrongType)?;
        bytes.map(|bytes| Uuid::from_slice(bytes).map_err(|_| WrongType)).transpose()
    }
}
