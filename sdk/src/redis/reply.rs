//! The answer to commands and scripts.

use super::{RedisError, host};
use crate::bindings::imports::compozy::types::buffers::Span;
use host::Node;

/// Answers, one after the other. Texts are borrowed from here.
#[derive(Debug)]
pub struct Reply {
    nodes: Vec<Node>,
    bytes: Vec<u8>,
}

/// One node and, for a list, those that it contains.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    nodes: &'a [Node],
    bytes: &'a [u8],
}

/// The elements of a list.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    length: usize,
    /// Those of all elements.
    nodes: &'a [Node],
    bytes: &'a [u8],
}

impl Reply {
    pub(super) fn new(reply: host::Reply) -> Self {
        Self { nodes: reply.nodes, bytes: reply.bytes }
    }

    /// The answers of all commands in their order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        Elements { nodes: &self.nodes, bytes: &self.bytes }
    }

    /// The only answer, or the first one.
    ///
    /// # Errors
    ///
    /// [`RedisError::Invalid`] when there is none.
    pub fn value(&self) -> Result<Value<'_>, RedisError> {
        self.iter().next().ok_or_else(|| invalid("there is no answer"))
    }

    /// The only answer as a Rust value.
    ///
    /// # Errors
    ///
    /// As [`Value::get`].
    pub fn get<'a, T: FromValue<'a>>(&'a self) -> Result<T, RedisError> {
        self.value()?.get()
    }

    /// The answers of `N` commands.
    ///
    /// # Errors
    ///
    /// [`RedisError::Invalid`] when it is another number of answers.
    pub fn array<const N: usize>(&self) -> Result<[Value<'_>; N], RedisError> {
        exactly(self.iter())
    }

    /// The first error among the answers.
    ///
    /// # Errors
    ///
    /// That one.
    pub fn check(&self) -> Result<(), RedisError> {
        self.iter().try_for_each(Value::check)
    }

    /// The buffer that all texts lie in, to hand on as it is, with the spans of [`Value::span`].
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The only answer's bytes, without copying them; `None` for nil.
    ///
    /// # Errors
    ///
    /// As [`Value::get`].
    pub fn into_blob(mut self) -> Result<Option<Vec<u8>>, RedisError> {
        let value = self.value()?;
        if value.is_nil() {
            return Ok(None);
        }
        // Checked before the span is used, as everything that comes from outside.
        value.get::<&[u8]>()?;
        let span = value.span()?;
        let (start, end) = (span.offset as usize, span.offset as usize + span.length as usize);
        self.bytes.truncate(end);
        if start > 0 {
            self.bytes.drain(..start);
        }
        Ok(Some(self.bytes))
    }
}

fn invalid(why: impl Into<String>) -> RedisError {
    RedisError::Invalid(why.into())
}

fn exactly<'a, const N: usize>(mut values: impl Iterator<Item = Value<'a>>) -> Result<[Value<'a>; N], RedisError> {
    let mut array = [Value { nodes: &[], bytes: &[] }; N];
    for (place, value) in array.iter_mut().enumerate() {
        *value = values.next().ok_or_else(|| invalid(format!("{place} answers came, not {N}")))?;
    }
    match values.next() {
        None => Ok(array),
        Some(_) => Err(invalid(format!("more than {N} answers came"))),
    }
}

impl<'a> Value<'a> {
    /// As a Rust value. `&str` and `&[u8]` borrow from the answer; `Option` takes nil as `None`.
    ///
    /// # Errors
    ///
    /// The error that is in this place, or [`RedisError::Invalid`] when it holds something else.
    pub fn get<T: FromValue<'a>>(self) -> Result<T, RedisError> {
        self.check()?;
        T::from_value(self).map_err(|found| invalid(format!("the server answered {found}, not {}", T::EXPECTED)))
    }

    /// The error that is in this place, if it is one.
    ///
    /// # Errors
    ///
    /// That one.
    pub fn check(self) -> Result<(), RedisError> {
        if let Some(Node::Failed(error)) = self.nodes.first() { Err(error.clone()) } else { Ok(()) }
    }

    /// True for nil.
    pub fn is_nil(self) -> bool {
        matches!(self.nodes.first(), Some(Node::Nil))
    }

    /// True for an integer.
    pub fn is_integer(self) -> bool {
        matches!(self.nodes.first(), Some(Node::Integer(_)))
    }

    /// Where the bytes lie in [`Reply::into_bytes`].
    ///
    /// # Errors
    ///
    /// The error that is in this place, or [`RedisError::Invalid`] when it is no text.
    pub fn span(self) -> Result<Span, RedisError> {
        self.check()?;
        match self.nodes.first() {
            Some(Node::Bytes(span)) => Ok(*span),
            _ => Err(invalid(format!("the server answered {}, not text", self.describe()))),
        }
    }

    fn slice(self, span: Span) -> Option<&'a [u8]> {
        let start = span.offset as usize;
        self.bytes.get(start..start.checked_add(span.length as usize)?)
    }

    fn describe(self) -> String {
        match self.nodes.first() {
            None => "nothing".into(),
            Some(Node::Nil) => "nil".into(),
            Some(Node::Integer(value)) => format!("the integer {value}"),
            Some(Node::Bytes(span)) => match self.slice(*span) {
                Some(_) => format!("text of {} bytes", span.length),
                None => "text that reaches past the end of its buffer".into(),
            },
            Some(Node::List(length)) => format!("a list of {length}"),
            Some(Node::Failed(error)) => format!("the error `{}`", error.message()),
        }
    }
}

impl<'a> List<'a> {
    /// How many elements there are.
    pub fn len(self) -> usize {
        self.length
    }

    /// True when there are none.
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The elements in their order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        Elements { nodes: self.nodes, bytes: self.bytes }
    }

    /// The elements, of which there are `N`.
    ///
    /// # Errors
    ///
    /// [`RedisError::Invalid`] when it is another number.
    pub fn array<const N: usize>(self) -> Result<[Value<'a>; N], RedisError> {
        exactly(self.iter())
    }
}

/// Cuts nodes into values.
struct Elements<'a> {
    nodes: &'a [Node],
    bytes: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.nodes.is_empty() {
            return None;
        }
        let (nodes, rest) = self.nodes.split_at(extent(self.nodes));
        self.nodes = rest;
        Some(Value { nodes, bytes: self.bytes })
    }
}

/// How many nodes the first value has; all that are left when it says that there are more.
fn extent(nodes: &[Node]) -> usize {
    let (mut at, mut open) = (0, 1_u64);
    while open > 0 && at < nodes.len() {
        open -= 1;
        if let Node::List(length) = nodes[at] {
            open += u64::from(length);
        }
        at += 1;
    }
    at
}

/// A Rust value that an answer can be read as.
pub trait FromValue<'a>: Sized {
    /// What the type takes, for messages.
    const EXPECTED: &'static str;

    /// The value, or what was found in its place.
    ///
    /// # Errors
    ///
    /// A description of what the answer holds.
    fn from_value(value: Value<'a>) -> Result<Self, String>;
}

impl FromValue<'_> for i64 {
    const EXPECTED: &'static str = "an integer";

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value.nodes.first() {
            Some(Node::Integer(integer)) => Ok(*integer),
            Some(Node::Bytes(_)) => decimal(value),
            _ => Err(value.describe()),
        }
    }
}

macro_rules! unsigned {
    ($($integer:ty: $expected:literal),*) => {
        $(impl FromValue<'_> for $integer {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: Value<'_>) -> Result<Self, String> {
                match value.nodes.first() {
                    Some(Node::Integer(integer)) => (*integer).try_into().map_err(|_| value.describe()),
                    Some(Node::Bytes(_)) => decimal(value),
                    _ => Err(value.describe()),
                }
            }
        })*
    };
}
unsigned!(u32: "an integer from 0 to 4294967295", u64: "an integer that is not negative");

/// Scripts answer large integers as text, because Lua's numbers are floats.
fn decimal<T: std::str::FromStr>(value: Value<'_>) -> Result<T, String> {
    let text = <&str>::from_value(value)?;
    text.parse().map_err(|_| format!("the text `{}`", text.chars().take(32).collect::<String>()))
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "0 or 1";

    fn from_value(value: Value<'_>) -> Result<Self, String> {
        match value.nodes.first() {
            Some(Node::Integer(0)) => Ok(false),
            Some(Node::Integer(1)) => Ok(true),
            _ => Err(value.describe()),
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    const EXPECTED: &'static str = "text";

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        match value.nodes.first() {
            Some(Node::Bytes(span)) => value.slice(*span).ok_or_else(|| value.describe()),
            _ => Err(value.describe()),
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "text";

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        str::from_utf8(<&[u8]>::from_value(value)?).map_err(|_| "text that is not UTF-8".into())
    }
}

impl<'a> FromValue<'a> for List<'a> {
    const EXPECTED: &'static str = "a list";

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        match value.nodes.split_first() {
            // Each element has one node at least, so a shorter rest is a broken answer.
            Some((Node::List(length), nodes)) if *length as usize <= nodes.len() => {
                Ok(List { length: *length as usize, nodes, bytes: value.bytes })
            }
            _ => Err(value.describe()),
        }
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(value: Value<'a>) -> Result<Self, String> {
        if value.is_nil() { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(nodes: Vec<Node>, bytes: &[u8]) -> Reply {
        Reply::new(host::Reply { nodes, bytes: bytes.to_vec() })
    }

    fn text(offset: u32, length: u32) -> Node {
        Node::Bytes(Span { offset, length })
    }

    #[test]
    fn values_are_read_by_type() {
        let nodes = vec![
            Node::Nil,
            Node::Integer(7),
            text(0, 2),
            Node::List(2),
            text(2, 3),
            Node::Integer(0),
            Node::Integer(1),
        ];
        let reply = reply(nodes, b"ab123");
        let [nil, seven, ab, list, one] = reply.array().unwrap();
        assert_eq!(nil.get::<Option<&str>>().unwrap(), None);
        assert_eq!((seven.get::<u64>().unwrap(), seven.get::<Option<i64>>().unwrap()), (7, Some(7)));
        assert_eq!((ab.get::<&str>().unwrap(), ab.get::<&[u8]>().unwrap()), ("ab", b"ab".as_slice()));
        let [number, no] = list.get::<List<'_>>().unwrap().array().unwrap();
        assert_eq!((number.get::<u64>().unwrap(), no.get::<bool>().unwrap()), (123, false));
        assert!(one.get::<bool>().unwrap());
    }

    #[test]
    fn lists_in_lists_come_out_as_they_went_in() {
        let nodes = vec![
            Node::List(3),
            Node::List(0),
            Node::List(2),
            Node::Integer(1),
            Node::List(1),
            Node::Nil,
            Node::Integer(2),
        ];
        let reply = reply(nodes, b"");
        let list: List<'_> = reply.get().unwrap();
        let [empty, nested, two] = list.array().unwrap();
        assert!(list.len() == 3 && empty.get::<List<'_>>().unwrap().is_empty());
        let [one, inner] = nested.get::<List<'_>>().unwrap().array().unwrap();
        assert_eq!((one.get::<i64>().unwrap(), inner.get::<List<'_>>().unwrap().len()), (1, 1));
        assert_eq!(two.get::<i64>().unwrap(), 2);
    }

    #[test]
    fn an_error_in_its_place_is_the_error_of_reading_it() {
        let reply = reply(vec![Node::Integer(1), Node::Failed(RedisError::Busy("loading".into()))], b"");
        let [one, failed] = reply.array().unwrap();
        assert!(one.check().is_ok());
        assert!(matches!(failed.get::<i64>(), Err(RedisError::Busy(_))));
        assert!(matches!(failed.get::<Option<&str>>(), Err(RedisError::Busy(_))));
        assert!(matches!(failed.span(), Err(RedisError::Busy(_))));
        assert!(matches!(reply.check(), Err(RedisError::Busy(_))));
    }

    #[test]
    fn a_wrong_type_is_told_with_what_came() {
        for (node, words) in [
            (Node::Nil, "the server answered nil, not an integer"),
            (text(0, 2), "the server answered the text `ab`, not an integer"),
            (Node::List(0), "the server answered a list of 0, not an integer"),
        ] {
            assert_eq!(reply(vec![node], b"ab").get::<i64>().unwrap_err().message(), words);
        }
        let negative = reply(vec![Node::Integer(-1)], b"");
        assert!(negative.get::<u64>().is_err() && negative.get::<bool>().is_err() && negative.get::<&str>().is_err());
        assert!(reply(vec![text(0, 1)], b"\xFF").get::<&str>().is_err());
    }

    #[test]
    fn a_broken_answer_is_an_error_and_no_panic() {
        for bad in [text(2, 2), text(u32::MAX, u32::MAX)] {
            let reply = reply(vec![bad], b"abc");
            assert!(reply.get::<&[u8]>().is_err() && reply.get::<u64>().is_err());
            assert!(reply.into_blob().is_err());
        }
        let reply = reply(vec![Node::List(u32::MAX), Node::List(u32::MAX), Node::Nil], b"");
        assert!(reply.get::<List<'_>>().is_err());
        assert_eq!(reply.iter().count(), 1);
        assert!(self::reply(vec![], b"").value().is_err());
        assert!(reply.array::<2>().is_err() && self::reply(vec![Node::Nil, Node::Nil], b"").array::<1>().is_err());
    }

    #[test]
    fn a_single_text_is_taken_without_a_copy() {
        let whole = reply(vec![text(0, 3)], b"abc");
        let address = whole.bytes.as_ptr();
        let blob = whole.into_blob().unwrap().unwrap();
        assert_eq!((blob.as_slice(), blob.as_ptr()), (b"abc".as_slice(), address));
        assert_eq!(reply(vec![text(1, 1)], b"abc").into_blob().unwrap().unwrap(), b"b");
        assert_eq!(reply(vec![Node::Nil], b"").into_blob().unwrap(), None);
    }
}
