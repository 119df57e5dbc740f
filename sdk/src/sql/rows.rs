//! The answer of a query.

use super::{Cell, SqlError};
use crate::bindings::imports::compozy::host::sql as host;
use crate::bindings::imports::compozy::types::buffers::Span;

/// Rows, one after the other. Text and blobs are borrowed from here.
#[derive(Debug)]
pub struct Rows {
    columns: usize,
    cells: Vec<Cell>,
    bytes: Vec<u8>,
}

impl Rows {
    pub(super) fn new(rows: host::Rows) -> Self {
        Self { columns: rows.columns as usize, cells: rows.cells, bytes: rows.bytes }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.columns).unwrap_or(0)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of each row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The first row.
    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }

    /// All rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        // A statement without columns has no cells either, so the length of its rows does not matter.
        self.cells.chunks_exact(self.columns.max(1)).map(|cells| Row { cells, bytes: &self.bytes })
    }

    /// The buffer that all text and blobs lie in, to hand on as it is, with the spans of [`Row::span`].
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The blob or text in the first row's `column`, without copying it when it is the only one in the answer.
    ///
    /// # Errors
    ///
    /// [`SqlError::Invalid`] when there is no such row or column, or when it holds something else.
    pub fn into_blob(mut self, column: usize) -> Result<Vec<u8>, SqlError> {
        let row = self.first().ok_or_else(|| SqlError::Invalid("there is no row to take a blob from".into()))?;
        let span = row.span(column)?;
        // Checked before it is used, as everything that comes from outside.
        row.slice(span)?;
        let (start, end) = (span.offset as usize, span.offset as usize + span.length as usize);
        self.bytes.truncate(end);
        if start > 0 {
            self.bytes.drain(..start);
        }
        Ok(self.bytes)
    }
}

/// One row of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    cells: &'a [Cell],
    bytes: &'a [u8],
}

impl<'a> Row<'a> {
    /// The value of a column, from 0. `&str` and `&[u8]` borrow from the answer; `Option` takes NULL as `None`.
    ///
    /// # Errors
    ///
    /// [`SqlError::Invalid`] when there is no such column or it holds something else.
    pub fn get<T: FromCell<'a>>(&self, column: usize) -> Result<T, SqlError> {
        T::from_cell(*self, self.cell(column)?)
            .map_err(|found| SqlError::Invalid(format!("column {column} holds {found}, not {}", T::EXPECTED)))
    }

    /// Where a column's text or blob lies in [`Rows::into_bytes`].
    ///
    /// # Errors
    ///
    /// [`SqlError::Invalid`] when there is no such column or it holds neither text nor a blob.
    pub fn span(&self, column: usize) -> Result<Span, SqlError> {
        match self.cell(column)? {
            Cell::Text(span) | Cell::Blob(span) => Ok(span),
            other => Err(SqlError::Invalid(format!("column {column} holds {}, not text or a blob", describe(other)))),
        }
    }

    /// A column as it came.
    ///
    /// # Errors
    ///
    /// [`SqlError::Invalid`] when there is no such column.
    pub fn cell(&self, column: usize) -> Result<Cell, SqlError> {
        self.cells
            .get(column)
            .copied()
            .ok_or_else(|| SqlError::Invalid(format!("there is no column {column}; the row has {}", self.cells.len())))
    }

    fn slice(&self, span: Span) -> Result<&'a [u8], SqlError> {
        let start = span.offset as usize;
        let bytes = start.checked_add(span.length as usize).and_then(|end| self.bytes.get(start..end));
        bytes.ok_or_else(|| SqlError::Invalid("a value reaches past the end of the answer's buffer".into()))
    }
}

/// A Rust value that a column can be read as.
pub trait FromCell<'a>: Sized {
    /// What the type takes, for messages.
    const EXPECTED: &'static str;

    /// The value, or what was found in its place.
    ///
    /// # Errors
    ///
    /// A description of what the cell holds.
    fn from_cell(row: Row<'a>, cell: Cell) -> Result<Self, String>;
}

fn describe(cell: Cell) -> String {
    match cell {
        Cell::Null => "NULL".into(),
        Cell::Integer(value) => format!("the integer {value}"),
        Cell::Real(value) => format!("the float {value}"),
        Cell::Text(span) => format!("text of {} bytes", span.length),
        Cell::Blob(span) => format!("a blob of {} bytes", span.length),
    }
}

impl FromCell<'_> for i64 {
    const EXPECTED: &'static str = "an integer";

    fn from_cell(_: Row<'_>, cell: Cell) -> Result<Self, String> {
        match cell {
            Cell::Integer(value) => Ok(value),
            other => Err(describe(other)),
        }
    }
}

macro_rules! unsigned {
    ($($integer:ty: $expected:literal),*) => {
        $(impl FromCell<'_> for $integer {
            const EXPECTED: &'static str = $expected;

            fn from_cell(_: Row<'_>, cell: Cell) -> Result<Self, String> {
                match cell {
                    Cell::Integer(value) => value.try_into().map_err(|_| describe(cell)),
                    other => Err(describe(other)),
                }
            }
        })*
    };
}
unsigned!(u32: "an integer from 0 to 4294967295", u64: "an integer that is not negative");

impl FromCell<'_> for bool {
    const EXPECTED: &'static str = "0 or 1";

    fn from_cell(_: Row<'_>, cell: Cell) -> Result<Self, String> {
        match cell {
            Cell::Integer(0) => Ok(false),
            Cell::Integer(1) => Ok(true),
            other => Err(describe(other)),
        }
    }
}

impl FromCell<'_> for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_cell(_: Row<'_>, cell: Cell) -> Result<Self, String> {
        match cell {
            Cell::Real(value) => Ok(value),
            Cell::Integer(value) => Ok(value as f64),
            other => Err(describe(other)),
        }
    }
}

impl<'a> FromCell<'a> for &'a str {
    const EXPECTED: &'static str = "text";

    fn from_cell(row: Row<'a>, cell: Cell) -> Result<Self, String> {
        let Cell::Text(span) = cell else { return Err(describe(cell)) };
        let bytes = row.slice(span).map_err(|error| error.message().into_owned())?;
        str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".into())
    }
}

impl<'a> FromCell<'a> for &'a [u8] {
    const EXPECTED: &'static str = "a blob or text";

    fn from_cell(row: Row<'a>, cell: Cell) -> Result<Self, String> {
        match cell {
            Cell::Text(span) | Cell::Blob(span) => row.slice(span).map_err(|error| error.message().into_owned()),
            other => Err(describe(other)),
        }
    }
}

impl<'a> FromCell<'a> for String {
    const EXPECTED: &'static str = "text";

    fn from_cell(row: Row<'a>, cell: Cell) -> Result<Self, String> {
        <&str>::from_cell(row, cell).map(str::to_owned)
    }
}

impl<'a> FromCell<'a> for Vec<u8> {
    const EXPECTED: &'static str = "a blob or text";

    fn from_cell(row: Row<'a>, cell: Cell) -> Result<Self, String> {
        <&[u8]>::from_cell(row, cell).map(<[u8]>::to_vec)
    }
}

impl<'a, T: FromCell<'a>> FromCell<'a> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_cell(row: Row<'a>, cell: Cell) -> Result<Self, String> {
        match cell {
            Cell::Null => Ok(None),
            other => T::from_cell(row, other).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: u32, cells: Vec<Cell>, bytes: &[u8]) -> Rows {
        Rows::new(host::Rows { columns, cells, bytes: bytes.to_vec() })
    }

    fn span(offset: u32, length: u32) -> Span {
        Span { offset, length }
    }

    #[test]
    fn values_are_read_by_type() {
        let rows = rows(
            3,
            vec![
                Cell::Text(span(0, 2)),
                Cell::Integer(7),
                Cell::Null,
                Cell::Blob(span(2, 1)),
                Cell::Integer(1),
                Cell::Real(0.5),
            ],
            b"abc",
        );
        assert_eq!(rows.len(), 2);
        let all: Vec<Row<'_>> = rows.iter().collect();
        assert_eq!(all[0].get::<&str>(0).unwrap(), "ab");
        assert_eq!(all[0].get::<u64>(1).unwrap(), 7);
        assert_eq!(all[0].get::<Option<f64>>(2).unwrap(), None);
        assert_eq!(all[1].get::<&[u8]>(0).unwrap(), b"c");
        assert!(all[1].get::<bool>(1).unwrap());
        assert_eq!(all[1].get::<Option<f64>>(2).unwrap(), Some(0.5));
    }

    #[test]
    fn a_wrong_type_is_told_by_column_and_value() {
        let rows = rows(1, vec![Cell::Integer(-1)], b"");
        let row = rows.first().unwrap();
        for (error, text) in [
            (row.get::<&str>(0).unwrap_err(), "column 0 holds the integer -1, not text"),
            (row.get::<u64>(0).unwrap_err(), "column 0 holds the integer -1, not an integer that is not negative"),
            (row.get::<i64>(1).unwrap_err(), "there is no column 1; the row has 1"),
        ] {
            assert_eq!(error.message(), text);
        }
    }

    #[test]
    fn a_span_past_the_end_is_an_error_and_no_panic() {
        for bad in [span(2, 2), span(u32::MAX, u32::MAX)] {
            let rows = rows(1, vec![Cell::Blob(bad)], b"abc");
            assert!(rows.first().unwrap().get::<&[u8]>(0).is_err());
            assert!(rows.into_blob(0).is_err());
        }
    }

    #[test]
    fn a_single_blob_is_taken_without_a_copy() {
        let rows = rows(2, vec![Cell::Integer(1), Cell::Blob(span(0, 3))], b"abc");
        let address = rows.bytes.as_ptr();
        let blob = rows.into_blob(1).unwrap();
        assert_eq!((blob.as_slice(), blob.as_ptr()), (b"abc".as_slice(), address));
    }

    #[test]
    fn a_blob_among_others_is_cut_out() {
        let rows = rows(3, vec![Cell::Text(span(0, 1)), Cell::Blob(span(1, 1)), Cell::Text(span(2, 1))], b"abc");
        assert_eq!(rows.into_blob(1).unwrap(), b"b");
    }

    #[test]
    fn no_rows_and_no_columns_are_no_rows() {
        for empty in [rows(0, vec![], b""), rows(2, vec![], b"")] {
            assert!(empty.is_empty() && empty.first().is_none());
            assert!(empty.into_blob(0).is_err());
        }
    }
}
