//! Values for a statement's placeholders.

use std::cell::Cell as StdCell;

use super::{Cell, SqlError};
use crate::bindings::imports::compozy::host::sql::Parameters;
use crate::bindings::imports::compozy::types::buffers::Span;

/// A buffer beyond this many bytes is not kept for the next call.
const BUFFER_KEPT_BYTES_MAX: usize = 256 * 1024;

/// Values for the placeholders `?1`, `?2`, ... in order.
#[derive(Debug)]
pub struct Params {
    pub(super) inner: Parameters,
    /// The first value that has no SQLite form.
    problem: Option<String>,
}

impl Params {
    const fn new() -> Self {
        Self { inner: Parameters { cells: Vec::new(), bytes: Vec::new() }, problem: None }
    }

    /// Adds NULL.
    pub fn null(&mut self) {
        self.inner.cells.push(Cell::Null);
    }

    /// Adds an integer.
    pub fn integer(&mut self, value: i64) {
        self.inner.cells.push(Cell::Integer(value));
    }

    /// Adds a float.
    pub fn real(&mut self, value: f64) {
        self.inner.cells.push(Cell::Real(value));
    }

    /// Adds text.
    pub fn text(&mut self, value: &str) {
        let span = self.copy(value.as_bytes());
        self.inner.cells.push(Cell::Text(span));
    }

    /// Adds a blob.
    pub fn blob(&mut self, value: &[u8]) {
        let span = self.copy(value);
        self.inner.cells.push(Cell::Blob(span));
    }

    /// Adds a blob without copying it, when it is the first value with bytes. So number the placeholders
    /// in such a way that the large value is `?1`.
    pub fn blob_owned(&mut self, value: Vec<u8>) {
        if self.inner.bytes.is_empty() && value.len() > BUFFER_KEPT_BYTES_MAX / 64 {
            let span = self.span(0, value.len());
            self.inner.bytes = value;
            self.inner.cells.push(Cell::Blob(span));
        } else {
            self.blob(&value);
        }
    }

    fn copy(&mut self, value: &[u8]) -> Span {
        let offset = self.inner.bytes.len();
        self.inner.bytes.extend_from_slice(value);
        self.span(offset, value.len())
    }

    fn span(&mut self, offset: usize, length: usize) -> Span {
        if let (Ok(offset), Ok(length)) = (u32::try_from(offset), u32::try_from(length)) {
            Span { offset, length }
        } else {
            self.refuse("reaches beyond the 4 GiB that one call can carry");
            Span { offset: 0, length: 0 }
        }
    }

    fn refuse(&mut self, why: &str) {
        let number = self.inner.cells.len() + 1;
        self.problem.get_or_insert_with(|| format!("parameter ?{number} {why}"));
    }

    /// Binds `values` in the buffer of the last call, runs `call`, and keeps the buffer for the next.
    pub(super) fn with<T>(
        values: impl Bind,
        call: impl FnOnce(&Parameters) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        thread_local! {
            static BUFFER: StdCell<Params> = const { StdCell::new(Params::new()) };
        }
        BUFFER.with(|buffer| {
            // Taken out, so that a call from within `call` would simply begin with an empty buffer.
            let mut params = buffer.replace(Self::new());
            values.bind(&mut params);
            let result = match params.problem.take() {
                None => call(&params.inner),
                Some(problem) => Err(SqlError::Invalid(problem)),
            };
            if params.inner.bytes.capacity() <= BUFFER_KEPT_BYTES_MAX {
                params.inner.cells.clear();
                params.inner.bytes.clear();
                buffer.set(params);
            }
            result
        })
    }
}

/// One value that can be bound.
pub trait ToSql {
    /// Adds the value.
    fn add_to(self, params: &mut Params);
}

/// All values of a statement: a tuple of up to twelve, or a slice.
pub trait Bind {
    /// Adds the values in order.
    fn bind(self, params: &mut Params);
}

macro_rules! small_integers {
    ($($integer:ty),*) => {
        $(impl ToSql for $integer {
            fn add_to(self, params: &mut Params) {
                params.integer(i64::from(self));
            }
        })*
    };
}
small_integers!(i8, i16, i32, i64, u8, u16, u32, bool);

impl ToSql for u64 {
    fn add_to(self, params: &mut Params) {
        match i64::try_from(self) {
            Ok(value) => params.integer(value),
            Err(_) => params.refuse(&format!("is {self}, beyond SQLite's largest integer {}", i64::MAX)),
        }
    }
}

impl ToSql for usize {
    fn add_to(self, params: &mut Params) {
        (self as u64).add_to(params);
    }
}

impl ToSql for f64 {
    fn add_to(self, params: &mut Params) {
        params.real(self);
    }
}

impl ToSql for &str {
    fn add_to(self, params: &mut Params) {
        params.text(self);
    }
}

impl ToSql for &String {
    fn add_to(self, params: &mut Params) {
        params.text(self);
    }
}

impl ToSql for &[u8] {
    fn add_to(self, params: &mut Params) {
        params.blob(self);
    }
}

impl ToSql for &Vec<u8> {
    fn add_to(self, params: &mut Params) {
        params.blob(self);
    }
}

impl ToSql for Vec<u8> {
    fn add_to(self, params: &mut Params) {
        params.blob_owned(self);
    }
}

impl<T: ToSql> ToSql for Option<T> {
    fn add_to(self, params: &mut Params) {
        match self {
            Some(value) => value.add_to(params),
            None => params.null(),
        }
    }
}

impl Bind for () {
    fn bind(self, _: &mut Params) {}
}

impl<T: ToSql + Copy> Bind for &[T] {
    fn bind(self, params: &mut Params) {
        for value in self {
            value.add_to(params);
        }
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: ToSql),*> Bind for ($($name,)*) {
            #[allow(non_snake_case, reason = "the types' names serve as the values' names")]
            fn bind(self, params: &mut Params) {
                let ($($name,)*) = self;
                $($name.add_to(params);)*
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);
tuples!(A B C D E F G H I J);
tuples!(A B C D E F G H I J K);
tuples!(A B C D E F G H I J K L);

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(values: impl Bind) -> (Vec<Cell>, Vec<u8>) {
        Params::with(values, |parameters| Ok((parameters.cells.clone(), parameters.bytes.clone()))).unwrap()
    }

    #[test]
    fn values_lie_one_after_the_other_in_one_buffer() {
        let (cells, bytes) = bound(("key", 7, None::<i64>, 1.5, b"ab".as_slice()));
        assert_eq!(bytes, b"keyab");
        assert!(matches!(
            cells[..],
            [
                Cell::Text(Span { offset: 0, length: 3 }),
                Cell::Integer(7),
                Cell::Null,
                Cell::Real(_),
                Cell::Blob(Span { offset: 3, length: 2 })
            ]
        ));
    }

    #[test]
    fn a_second_call_starts_from_nothing() {
        bound(("first", 1));
        let (cells, bytes) = bound(("b",));
        assert_eq!((cells.len(), bytes.as_slice()), (1, b"b".as_slice()));
    }

    #[test]
    fn a_large_blob_that_comes_first_moves_in_without_a_copy() {
        let mut blob = Vec::with_capacity(100_003);
        blob.resize(100_000, 7_u8);
        let address = blob.as_ptr();
        Params::with((blob, "key"), |parameters| {
            assert_eq!(parameters.bytes.as_ptr(), address);
            assert_eq!(&parameters.bytes[100_000..], b"key");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn an_integer_that_sqlite_cannot_hold_is_refused_by_position_and_value() {
        let error = Params::with((1, u64::MAX), |_| Ok(())).unwrap_err();
        assert_eq!(
            error.message(),
            "parameter ?2 is 18446744073709551615, beyond SQLite's largest integer 9223372036854775807"
        );
    }
}
