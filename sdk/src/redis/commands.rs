//! Commands and their arguments in one flat buffer.

use std::cell::Cell;
use std::io::Write as _;

use super::{RedisError, host};
use crate::bindings::imports::compozy::types::buffers::Span;

/// A buffer beyond this many bytes is not kept for the next call.
const BUFFER_KEPT_BYTES_MAX: usize = 256 * 1024;
/// Room that is made behind a large value for the arguments that follow.
const ROOM_BYTES: usize = 2 * 1024;

/// Commands one after the other.
#[derive(Debug)]
pub struct Commands {
    pub(super) inner: host::Commands,
    /// The first thing that was wrong.
    problem: Option<&'static str>,
}

impl Commands {
    const fn new() -> Self {
        Self { inner: host::Commands { counts: Vec::new(), arguments: Vec::new(), bytes: Vec::new() }, problem: None }
    }

    /// Begins a command; its arguments follow.
    pub fn command(&mut self, name: &str) -> Arguments<'_> {
        self.inner.counts.push(0);
        let mut arguments = Arguments { commands: self };
        arguments.arg(name);
        arguments
    }

    /// Puts a value into the buffer, to be an argument later: without a copy when it is the first thing in it.
    pub fn put(&mut self, mut value: Vec<u8>) -> Placed {
        if self.inner.bytes.is_empty() && value.len() > ROOM_BYTES {
            // Exactly: growing by half would take the memory of another large value.
            value.reserve_exact(ROOM_BYTES);
            self.inner.bytes = value;
            Placed(self.span_from(0))
        } else {
            let start = self.inner.bytes.len();
            self.inner.bytes.extend_from_slice(&value);
            Placed(self.span_from(start))
        }
    }

    fn span_from(&mut self, start: usize) -> Span {
        let length = self.inner.bytes.len() - start;
        if let (Ok(offset), Ok(length)) = (u32::try_from(start), u32::try_from(length)) {
            Span { offset, length }
        } else {
            self.refuse("the arguments reach beyond the 4 GiB that one call can carry");
            Span { offset: 0, length: 0 }
        }
    }

    pub(super) fn refuse(&mut self, why: &'static str) {
        self.problem.get_or_insert(why);
    }

    /// Adds an argument out of what `write` puts behind the buffer's end.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.inner.bytes.len();
        write(&mut self.inner.bytes);
        let span = self.span_from(start);
        self.add_span(span);
    }

    fn add_span(&mut self, span: Span) {
        self.inner.arguments.push(span);
        if let Some(count) = self.inner.counts.last_mut() {
            *count += 1;
        }
    }

    /// Builds in the buffer of the last call, runs `call`, and keeps the buffer for the next.
    pub(super) fn with<T>(
        build: impl FnOnce(&mut Self),
        call: impl FnOnce(&host::Commands) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        thread_local! {
            static BUFFER: Cell<Commands> = const { Cell::new(Commands::new()) };
        }
        BUFFER.with(|buffer| {
            // Taken out, so that a call from within would simply begin with an empty buffer.
            let mut commands = buffer.replace(Self::new());
            build(&mut commands);
            let result = match commands.problem.take() {
                None => call(&commands.inner),
                Some(problem) => Err(RedisError::Invalid(problem.to_owned())),
            };
            if commands.inner.bytes.capacity() <= BUFFER_KEPT_BYTES_MAX {
                commands.inner.bytes.clear();
                commands.inner.arguments.clear();
                commands.inner.counts.clear();
                buffer.set(commands);
            }
            result
        })
    }
}

/// The arguments of one command.
#[derive(Debug)]
pub struct Arguments<'a> {
    commands: &'a mut Commands,
}

impl Arguments<'_> {
    /// Adds an argument.
    pub fn arg(&mut self, value: impl Arg) -> &mut Self {
        value.add_to(self.commands);
        self
    }
}

/// A value that lies in the buffer already; see [`Commands::put`].
#[derive(Debug, Clone, Copy)]
pub struct Placed(Span);

impl Placed {
    /// A part of the value; `None` when it reaches past its end.
    pub fn part(self, part: Span) -> Option<Self> {
        let fits = part.offset.checked_add(part.length).is_some_and(|end| end <= self.0.length);
        fits.then(|| Self(Span { offset: self.0.offset + part.offset, length: part.length }))
    }
}

/// Pieces that make one argument, such as a prefix and a name.
#[derive(Debug, Clone, Copy)]
pub struct Joined<'a>(pub &'a [&'a [u8]]);

/// What can be an argument: text, bytes, integers (written in decimal), [`Joined`] pieces and [`Placed`] values.
pub trait Arg {
    /// Adds it.
    fn add_to(self, commands: &mut Commands);
}

macro_rules! bytes {
    ($($type:ty),*) => {
        $(impl Arg for $type {
            fn add_to(self, commands: &mut Commands) {
                commands.add(|bytes| bytes.extend_from_slice(self.as_ref()));
            }
        })*
    };
}
bytes!(&str, &String, &[u8], &Vec<u8>);

impl<const N: usize> Arg for &[u8; N] {
    fn add_to(self, commands: &mut Commands) {
        commands.add(|bytes| bytes.extend_from_slice(self));
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl Arg for $type {
            fn add_to(self, commands: &mut Commands) {
                commands.add(|bytes| write!(bytes, "{self}").expect("a Vec takes all that is written"));
            }
        })*
    };
}
integers!(i32, i64, u32, u64, usize);

impl Arg for Joined<'_> {
    fn add_to(self, commands: &mut Commands) {
        commands.add(|bytes| self.0.iter().for_each(|piece| bytes.extend_from_slice(piece)));
    }
}

impl Arg for Placed {
    fn add_to(self, commands: &mut Commands) {
        commands.add_span(self.0);
    }
}

/// `None` is an empty argument.
impl<T: Arg> Arg for Option<T> {
    fn add_to(self, commands: &mut Commands) {
        match self {
            Some(value) => value.add_to(commands),
            None => "".add_to(commands),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each command as its arguments.
    fn built(build: impl FnOnce(&mut Commands)) -> Vec<Vec<Vec<u8>>> {
        Commands::with(build, |commands| {
            let mut arguments = commands
                .arguments
                .iter()
                .map(|span| commands.bytes[span.offset as usize..span.offset as usize + span.length as usize].to_vec());
            Ok(commands.counts.iter().map(|count| arguments.by_ref().take(*count as usize).collect()).collect())
        })
        .unwrap()
    }

    #[test]
    fn each_command_has_its_own_arguments() {
        let commands = built(|commands| {
            commands.command("SET").arg("key").arg(b"\0\xFF").arg("PX").arg(u64::MAX);
            commands.command("INCRBY").arg(Joined(&[b"a", b"", b"b"])).arg(i64::MIN);
            commands.command("EVAL").arg(None::<u64>).arg(Some(0));
        });
        let text = |arguments: &[&[u8]]| arguments.iter().map(|argument| argument.to_vec()).collect::<Vec<_>>();
        assert_eq!(commands[0], text(&[b"SET", b"key", b"\0\xFF", b"PX", b"18446744073709551615"]));
        assert_eq!(commands[1], text(&[b"INCRBY", b"ab", b"-9223372036854775808"]));
        assert_eq!(commands[2], text(&[b"EVAL", b"", b"0"]));
    }

    #[test]
    fn a_second_call_starts_from_nothing() {
        built(|commands| {
            commands.command("GET").arg("one");
        });
        assert!(built(|_| {}).is_empty());
    }

    #[test]
    fn parts_of_a_value_are_arguments_without_a_copy() {
        let commands = built(|commands| {
            commands.command("XADD");
            let value = commands.put(b"onetwo".to_vec());
            assert!(value.part(Span { offset: 4, length: 3 }).is_none());
            assert!(value.part(Span { offset: u32::MAX, length: 1 }).is_none());
            let two = value.part(Span { offset: 3, length: 3 });
            commands.command("SET").arg(two);
        });
        assert_eq!(commands[1], [b"SET".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn a_large_value_moves_in_without_another_copy_of_its_size() {
        let value = vec![7_u8; 100_000];
        let commands = built(|commands| {
            let value = commands.put(value);
            assert!(commands.inner.bytes.capacity() < 110_000, "{}", commands.inner.bytes.capacity());
            commands.command("SET").arg("key").arg(value);
        });
        assert_eq!(commands[0][1..], [b"key".to_vec(), vec![7; 100_000]]);
    }
}
