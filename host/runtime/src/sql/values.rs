//! Flat parameters in, flat rows out: no vector per row and no string per cell.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Statement, ToSql};

use super::error::{SqlFailure, invalid, too_large};
use crate::bindings::compozy::host::sql::{Cell, Parameters, Rows};
use crate::bindings::compozy::types::buffers::Span;
use crate::limits::Limit;

/// What one cell of an answer counts beside its bytes.
const CELL_BYTES: usize = size_of::<Cell>();

/// A value on its way from a guest's buffer to SQLite, without a copy of ours.
struct Borrowed<'a>(ValueRef<'a>);

impl ToSql for Borrowed<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// An error of a step that can fail in the guest's arguments or in SQLite.
pub(super) enum StepError {
    Failure(SqlFailure),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StepError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<SqlFailure> for StepError {
    fn from(failure: SqlFailure) -> Self {
        Self::Failure(failure)
    }
}

/// Binds all values to the placeholders of a statement.
pub(super) fn bind(statement: &mut Statement<'_>, parameters: &Parameters) -> Result<(), StepError> {
    let expected = statement.parameter_count();
    if parameters.cells.len() != expected {
        let given = parameters.cells.len();
        return Err(invalid(format!("the statement has {expected} placeholders, but {given} values were given")).into());
    }
    for (index, cell) in parameters.cells.iter().enumerate() {
        let value = match cell {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(*number),
            Cell::Real(number) => ValueRef::Real(*number),
            Cell::Blob(span) => ValueRef::Blob(slice(&parameters.bytes, *span, index)?),
            Cell::Text(span) => {
                let bytes = slice(&parameters.bytes, *span, index)?;
                if let Err(error) = std::str::from_utf8(bytes) {
                    return Err(invalid(format!("value ?{}: text is not UTF-8: {error}", index + 1)).into());
                }
                ValueRef::Text(bytes)
            }
        };
        statement.raw_bind_parameter(index + 1, Borrowed(value))?;
    }
    Ok(())
}

/// The largest text or blob among the parameters, in bytes.
pub(super) fn largest(parameters: &Parameters) -> u64 {
    let lengths = parameters.cells.iter().map(|cell| match cell {
        Cell::Text(span) | Cell::Blob(span) => span.length,
        Cell::Null | Cell::Integer(_) | Cell::Real(_) => 0,
    });
    u64::from(lengths.max().unwrap_or(0))
}

fn slice(bytes: &[u8], span: Span, index: usize) -> Result<&[u8], SqlFailure> {
    let start = span.offset as usize;
    let end = start.saturating_add(span.length as usize);
    bytes.get(start..end).ok_or_else(|| {
        let length = bytes.len();
        invalid(format!(
            "value ?{}: span {start}..{end} reaches past the end of the buffer of {length} bytes",
            index + 1
        ))
    })
}

/// Runs a statement whose values are bound, and collects its rows.
pub(super) fn collect(statement: &mut Statement<'_>, allowed: u64) -> Result<Rows, StepError> {
    if statement.column_count() == 0 {
        return Err(invalid("the statement returns no rows; use `execute`").into());
    }
    let mut answer = Rows { columns: 0, cells: Vec::new(), bytes: Vec::new() };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        // Asked for after the first step: a statement is prepared again when the schema has changed.
        let columns = row.as_ref().column_count();
        answer.columns = columns as u32;
        for index in 0..columns {
            let cell = match row.get_ref(index)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Integer(number),
                ValueRef::Real(number) => Cell::Real(number),
                ValueRef::Blob(bytes) => Cell::Blob(append(&mut answer, bytes, allowed)?),
                ValueRef::Text(bytes) => {
                    if std::str::from_utf8(bytes).is_err() {
                        return Err(
                            invalid(format!("column {}: text is not UTF-8; select it as a blob", index + 1)).into()
                        );
                    }
                    Cell::Text(append(&mut answer, bytes, allowed)?)
                }
            };
            answer.cells.push(cell);
        }
        fits(&answer, 0, allowed)?;
    }
    if answer.columns == 0 {
        answer.columns = rows.as_ref().map_or(0, Statement::column_count) as u32;
    }
    Ok(answer)
}

fn append(answer: &mut Rows, bytes: &[u8], allowed: u64) -> Result<Span, SqlFailure> {
    fits(answer, bytes.len(), allowed)?;
    // `hostcall_bytes` is far below 4 GiB, so offsets and lengths fit.
    let span = Span { offset: answer.bytes.len() as u32, length: bytes.len() as u32 };
    answer.bytes.extend_from_slice(bytes);
    Ok(span)
}

fn fits(answer: &Rows, more: usize, allowed: u64) -> Result<(), SqlFailure> {
    let used = (answer.bytes.len() + more + answer.cells.len() * CELL_BYTES) as u64;
    if used > allowed.min(u64::from(u32::MAX)) {
        return Err(too_large(Limit::HostcallBytes, used, allowed));
    }
    Ok(())
}
