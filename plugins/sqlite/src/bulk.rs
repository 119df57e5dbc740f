//! Many rows in few crossings: one statement writes up to 64 rows.

use std::cell::OnceCell;
use std::fmt::Write as _;

use compozy_sdk::sql::{Bind, Params, SqlError, Statement};

use crate::page::PAGE_BYTES_MAX;

/// Rows of one statement; each size is prepared once, when it is first used.
const SIZES: [usize; 3] = [64, 8, 1];

/// An INSERT of many rows.
pub(crate) struct Insert {
    /// The text before the rows.
    pub(crate) into: &'static str,
    /// One row. `?1`, `?2`, ... are values that all rows share, `$1`, `$2`, ... are the row's own.
    pub(crate) row: &'static str,
    /// The text behind the rows.
    pub(crate) end: &'static str,
    /// How many values the rows share.
    pub(crate) shared: usize,
    /// How many values each row has.
    pub(crate) own: usize,
}

/// The prepared sizes of one `Insert`. One for each place of use, in a `thread_local!`.
pub(crate) struct Bulk {
    insert: Insert,
    statements: [OnceCell<&'static Statement>; SIZES.len()],
}

impl Bulk {
    pub(crate) const fn new(insert: Insert) -> Self {
        Self { insert, statements: [const { OnceCell::new() }; SIZES.len()] }
    }

    /// How many statements `write` runs for these rows. More than one need a transaction around them.
    pub(crate) fn statements<R>(rows: &[R], bytes: impl Fn(&R) -> usize) -> usize {
        let (mut rest, mut count) = (rows, 0);
        while !rest.is_empty() {
            let (size, _) = next(rest, &bytes);
            (rest, count) = (&rest[size..], count + 1);
        }
        count
    }

    /// Writes the rows in their order; answers how many rows changed.
    ///
    /// `bytes`: about how long a row is. `shared` and `own` bind the values in the order of their numbers.
    pub(crate) fn write<R>(
        &self,
        rows: &[R],
        bytes: impl Fn(&R) -> usize,
        shared: impl Fn(&mut Params),
        own: impl Fn(&R, &mut Params),
    ) -> Result<u64, SqlError> {
        let (mut rest, mut changed) = (rows, 0);
        while !rest.is_empty() {
            let (size, index) = next(rest, &bytes);
            let statement = match self.statements[index].get() {
                Some(statement) => *statement,
                None => Statement::once(&self.statements[index], &self.insert.sql(size))?,
            };
            let (chunk, after) = rest.split_at(size);
            changed += statement.execute(Chunk { rows: chunk, shared: &shared, own: &own })?;
            rest = after;
        }
        Ok(changed)
    }
}

/// The largest size of a statement for the rows that are left, and its place in `SIZES`.
fn next<R>(rest: &[R], bytes: impl Fn(&R) -> usize) -> (usize, usize) {
    let fits = |size: usize| rest[..size].iter().map(|row| bytes(row) as u64).sum::<u64>() <= PAGE_BYTES_MAX;
    let found = SIZES.into_iter().position(|size| size <= rest.len() && fits(size));
    // A single row goes alone, however long it is.
    let index = found.unwrap_or(SIZES.len() - 1);
    (SIZES[index], index)
}

impl Insert {
    fn sql(&self, rows: usize) -> String {
        let mut sql = self.into.to_owned();
        for row in 0..rows {
            sql.push_str(if row == 0 { " " } else { ", " });
            let mut parts = self.row.split('$');
            sql.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let number: usize = part[..digits].parse().unwrap_or_default();
                let _ = write!(sql, "?{}{}", self.shared + row * self.own + number, &part[digits..]);
            }
        }
        sql.push(' ');
        sql.push_str(self.end);
        sql
    }
}

struct Chunk<'a, R, S, O> {
    rows: &'a [R],
    shared: &'a S,
    own: &'a O,
}

impl<R, S: Fn(&mut Params), O: Fn(&R, &mut Params)> Bind for Chunk<'_, R, S, O> {
    fn bind(self, params: &mut Params) {
        (self.shared)(params);
        for row in self.rows {
            (self.own)(row, params);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_values_of_its_own() {
        let insert = Insert {
            into: "INSERT INTO t VALUES",
            row: "($1, ?1, $2)",
            end: "ON CONFLICT DO NOTHING",
            shared: 1,
            own: 2,
        };
        assert_eq!(insert.sql(2), "INSERT INTO t VALUES (?2, ?1, ?3), (?4, ?1, ?5) ON CONFLICT DO NOTHING");
    }

    #[test]
    fn rows_go_into_as_few_statements_as_their_bytes_allow() {
        let count = |rows: &[usize]| Bulk::statements(rows, |bytes| *bytes);
        assert_eq!(count(&[]), 0);
        for (rows, statements) in [(1, 1), (7, 7), (8, 1), (64, 1), (65, 2), (1_000, 15 + 5)] {
            assert_eq!(count(&vec![1; rows]), statements, "{rows} rows");
        }
        let large = 1024 * 1024;
        assert_eq!(count(&[large; 8]), 8, "8 MiB are too much for one crossing");
        assert_eq!(count(&[large / 2; 8]), 1);
    }
}
