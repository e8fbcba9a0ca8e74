//! How the columns of a row are read, in the binary form of a statement with parameters as well as in the text form of one
//! without.

use std::borrow::Cow;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::journal::row::{Cells, WrongType};

impl Cells for PgRow {
    fn integer(&self, column: &str) -> Result<Option<i64>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn text(&self, column: &str) -> Result<Option<&str>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }

    fn bytes(&self, column: &str) -> Result<Option<Cow<'_, [u8]>>, WrongType> {
        let bytes: Option<Vec<u8>> = self.try_get(column).map_err(|_| WrongType)?;
        Ok(bytes.map(Cow::Owned))
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, WrongType> {
        self.try_get(column).map_err(|_| WrongType)
    }
}
