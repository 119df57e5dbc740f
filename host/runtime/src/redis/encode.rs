//! From a guest's flat commands to those of the crate, with the prefix before each key.

use std::io::Write;

use redis::{Cmd, RedisWrite};

use super::commands::{Answer, find};
use super::error::{invalid, too_large};
use crate::bindings::compozy::host::redis::{Commands, RedisError};
use crate::bindings::compozy::types::buffers::Span;
use crate::limits::Limit;

/// Commands of one call.
pub(super) const COMMANDS: usize = 1_000;
/// What one argument costs beside its bytes.
const ARGUMENT_BYTES: u64 = 16;

/// A command that is ready to be sent.
pub(super) struct Ready {
    pub(super) command: Cmd,
    pub(super) answer: Answer,
}

/// Reads the commands of one call.
pub(super) fn commands(commands: &Commands, prefix: &[u8], allowed: u64) -> Result<Vec<Ready>, RedisError> {
    let count = commands.counts.len();
    if count == 0 || count > COMMANDS {
        return Err(invalid(format!("{count} commands were given; one call runs 1 to {COMMANDS}")));
    }
    let total: u64 = commands.counts.iter().map(|&count| u64::from(count)).sum();
    if total != commands.arguments.len() as u64 {
        let arguments = commands.arguments.len();
        return Err(invalid(format!("`counts` adds up to {total}, but there are {arguments} arguments")));
    }
    let slices = slices(&commands.arguments, &commands.bytes, allowed)?;
    let mut rest = slices.as_slice();
    let mut ready = Vec::with_capacity(count);
    for (index, &count) in commands.counts.iter().enumerate() {
        let arguments = rest.split_off(..count as usize).expect("the counts add up to the arguments");
        let command = one(arguments, prefix);
        ready.push(command.map_err(|why| {
            invalid(if commands.counts.len() == 1 { why } else { format!("command {index}: {why}") })
        })?);
    }
    Ok(ready)
}

fn one(arguments: &[&[u8]], prefix: &[u8]) -> Result<Ready, String> {
    let name = arguments.first().ok_or("a command needs a name")?;
    let spec = find(name)?;
    let places = spec.places(arguments)?;
    let size: usize = arguments.iter().map(|argument| argument.len()).sum();
    let mut command = Cmd::with_capacity(arguments.len(), size + prefix.len() * 2);
    for (index, argument) in arguments.iter().enumerate() {
        if places.contains(index) { key(&mut command, prefix, argument) } else { command.write_arg(argument) }
    }
    Ok(Ready { command, answer: spec.answer(arguments) })
}

/// Writes a key behind the prefix.
pub(super) fn key(command: &mut Cmd, prefix: &[u8], key: &[u8]) {
    let mut argument = command.writer_for_next_arg();
    for part in [prefix, key] {
        argument.write_all(part).expect("memory takes what is written");
    }
}

/// The arguments themselves. Several spans may name the same bytes, so their sum is what counts.
pub(super) fn slices<'a>(spans: &[Span], bytes: &'a [u8], allowed: u64) -> Result<Vec<&'a [u8]>, RedisError> {
    let used: u64 = spans.iter().map(|span| u64::from(span.length) + ARGUMENT_BYTES).sum();
    if used > allowed {
        return Err(too_large(Limit::HostcallBytes, used, allowed));
    }
    let slice = |(index, span): (usize, &Span)| {
        let start = span.offset as usize;
        let end = start.saturating_add(span.length as usize);
        bytes.get(start..end).ok_or_else(|| {
            let length = bytes.len();
            invalid(format!(
                "argument {index}: span {start}..{end} reaches past the end of the buffer of {length} bytes"
            ))
        })
    };
    spans.iter().enumerate().map(slice).collect()
}
