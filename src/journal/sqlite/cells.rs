//! Rows on their way into a table, packed so that SQLite can take them apart at little cost.
//!
//! All rows of a batch for one table are bound as one blob, whatever their number: rows of one width, cells at fixed places
//! in them, taken out with `substr`. Texts and payloads lie in a second blob, the heap, which all tables share; their cells
//! say where. (The same rows as JSON, taken apart with `->>`, took SQLite half as many instructions again.)

/// What a cell holds, and so how it is packed. A cell of zero bytes is NULL, where that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Decimal digits, to the right, so that `CAST` reads them.
    Integer,
    OptionalInteger,
    /// 16 bytes: a UUID, or a salt.
    Id,
    OptionalId,
    /// 32 bytes.
    Digest,
    OptionalDigest,
    /// A place in the heap, counted from 1, and a length.
    Text,
    OptionalText,
    Bytes,
    OptionalBytes,
}

const INTEGER: usize = 20;
const PLACE: usize = 12;
const LENGTH: usize = 10;

impl Cell {
    const fn width(self) -> usize {
        match self {
            Self::Integer | Self::OptionalInteger => INTEGER,
            Self::Id | Self::OptionalId => 16,
            Self::Digest | Self::OptionalDigest => 32,
            Self::Text | Self::OptionalText | Self::Bytes | Self::OptionalBytes => PLACE + LENGTH,
        }
    }

    /// The SQL for the value of the cell that begins `place` bytes into a row of the blob `rows`.
    fn sql(self, rows: &str, place: usize, heap: &str) -> String {
        let slice = |place: usize, width: usize| format!("substr({rows}, row + {place}, {width})");
        let or_null = |place, width| format!("nullif({}, x'{}')", slice(place, width), "00".repeat(width));
        let cell = slice(place, self.width());
        let cell_or_null = or_null(place, self.width());
        let length = format!("CAST({} AS INTEGER)", slice(place + PLACE, LENGTH));
        match self {
            Self::Integer => format!("CAST({cell} AS INTEGER)"),
            Self::OptionalInteger => format!("CAST({cell_or_null} AS INTEGER)"),
            Self::Id | Self::Digest => cell,
            Self::OptionalId | Self::OptionalDigest => cell_or_null,
            Self::Text => {
                format!("CAST(substr({heap}, CAST({} AS INTEGER), {length}) AS TEXT)", slice(place, PLACE))
            }
            Self::OptionalText => {
                format!("CAST(substr({heap}, CAST({} AS INTEGER), {length}) AS TEXT)", or_null(place, PLACE))
            }
            Self::Bytes => format!("substr({heap}, CAST({} AS INTEGER), {length})", slice(place, PLACE)),
            Self::OptionalBytes => format!("substr({heap}, CAST({} AS INTEGER), {length})", or_null(place, PLACE)),
        }
    }
}

/// The cells of a row, in their order, each with its column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout(pub(super) &'static [(&'static str, Cell)]);

impl Layout {
    fn width(self) -> usize {
        self.0.iter().map(|(_, cell)| cell.width()).sum()
    }

    /// The names of the columns, as an `INSERT` lists them.
    pub(super) fn columns(self) -> String {
        self.0.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// What goes through the places in the blob `rows` where its rows begin, as `row`.
    pub(super) fn each(self, rows: &str) -> String {
        let width = self.width();
        format!("(SELECT row FROM {} LIMIT length({rows}) / {width}) AS each_row", self.view_name())
    }

    /// The view that counts by the width of a row, without end: a test sees to it that SQLite stops counting when enough is
    /// read of it. (A trigger takes no recursive query but by a view.)
    pub(super) fn view(self) -> String {
        format!(
            "CREATE TEMP VIEW IF NOT EXISTS {} AS WITH RECURSIVE places(row) AS NOT MATERIALIZED \
             (SELECT 1 UNION ALL SELECT row + {} FROM places) SELECT row FROM places",
            self.view_name(),
            self.width()
        )
    }

    fn view_name(self) -> String {
        format!("rows_of_{}", self.width())
    }

    /// The SQL for each column's value, in their order.
    pub(super) fn values(self, rows: &str, heap: &str) -> Vec<(&'static str, String)> {
        let mut place = 0;
        let value = |&(name, cell): &(&'static str, Cell)| {
            let sql = cell.sql(rows, place, heap);
            place += cell.width();
            (name, sql)
        };
        self.0.iter().map(value).collect()
    }
}

/// The rows of a batch for one table, packed cell by cell in the order of their [`Layout`].
pub(super) struct Rows<'h> {
    cells: Vec<u8>,
    heap: &'h mut Vec<u8>,
}

impl<'h> Rows<'h> {
    pub(super) fn new(layout: Layout, rows: usize, heap: &'h mut Vec<u8>) -> Self {
        Self { cells: Vec::with_capacity(layout.width() * rows), heap }
    }

    pub(super) fn integer(&mut self, value: impl Into<i64>) -> &mut Self {
        self.digits::<INTEGER>(value.into());
        self
    }

    pub(super) fn optional_integer(&mut self, value: Option<impl Into<i64>>) -> &mut Self {
        match value {
            Some(value) => self.integer(value),
            None => self.bytes(&[0; INTEGER]),
        }
    }

    /// The bytes of an id or a digest; zeroes where there is none.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.cells.extend_from_slice(bytes);
        self
    }

    pub(super) fn heaped(&mut self, bytes: &[u8]) -> &mut Self {
        self.joined(&[bytes])
    }

    /// The parts, in one cell.
    pub(super) fn joined(&mut self, parts: &[&[u8]]) -> &mut Self {
        // A blob has less than 2^31 bytes.
        let place = i64::try_from(self.heap.len() + 1).unwrap_or(i64::MAX);
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        self.digits::<PLACE>(place);
        self.digits::<LENGTH>(i64::try_from(length).unwrap_or(i64::MAX));
        for part in parts {
            self.heap.extend_from_slice(part);
        }
        self
    }

    pub(super) fn optional_heaped(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.heaped(bytes),
            None => self.bytes(&[0; PLACE + LENGTH]),
        }
    }

    pub(super) fn into_cells(self) -> Vec<u8> {
        self.cells
    }

    /// Decimal digits, filled up with spaces on the left.
    fn digits<const WIDTH: usize>(&mut self, value: i64) {
        let mut digits = [b' '; WIDTH];
        let mut rest = value.unsigned_abs();
        let mut places = digits.iter_mut().rev();
        for place in places.by_ref() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0
            && let Some(place) = places.next()
        {
            *place = b'-';
        }
        self.cells.extend_from_slice(&digits);
    }
}
