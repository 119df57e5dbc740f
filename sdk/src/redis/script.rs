//! A prepared script.

use std::cell::{Cell, OnceCell};

use super::{Arg, Commands, Placed, RedisError, Reply, host, outside};

/// A prepared Lua script. Prepare it once, by [`script!`](crate::redis::script), and run it many times.
#[derive(Debug)]
pub struct Script {
    inner: host::Script,
}

impl Script {
    /// Prepares a script of at most 64 KiB. An instance can have 256 at once; a script that is dropped makes room.
    ///
    /// # Errors
    ///
    /// As [`RedisError`] tells. A mistake in the script shows when it is first run.
    pub fn prepare(source: &str) -> Result<Self, RedisError> {
        if crate::IN_HOST { host::prepare(source).map(|inner| Self { inner }) } else { Err(outside()) }
    }

    /// Prepares what `cell` does not hold yet. The script lives as long as the instance, so it is never freed.
    #[doc(hidden)]
    pub fn once(cell: &OnceCell<&'static Self>, source: &str) -> Result<&'static Self, RedisError> {
        if let Some(script) = cell.get() {
            return Ok(script);
        }
        let script = Self::prepare(source)?;
        Ok(cell.get_or_init(|| Box::leak(Box::new(script))))
    }

    /// Runs the script as one atomic step: first add its keys, then its arguments.
    ///
    /// # Errors
    ///
    /// As [`RedisError`] tells.
    pub fn invoke(&self, build: impl FnOnce(&mut Call<'_>)) -> Result<Reply, RedisError> {
        let keys = Cell::new(0);
        let build = |commands: &mut Commands| {
            let mut call = Call { commands, keys: 0 };
            build(&mut call);
            keys.set(call.keys);
        };
        Commands::with(build, |commands| {
            self.inner.invoke(keys.get(), &commands.arguments, &commands.bytes).map(Reply::new)
        })
    }
}

/// Keys and arguments of a script's run.
#[derive(Debug)]
pub struct Call<'a> {
    commands: &'a mut Commands,
    keys: u32,
}

impl Call<'_> {
    /// Adds a key, before the first argument.
    pub fn key(&mut self, key: impl Arg) -> &mut Self {
        if self.commands.inner.arguments.len() != self.keys as usize {
            self.commands.refuse("a script's keys come before its arguments");
        }
        self.keys += 1;
        key.add_to(self.commands);
        self
    }

    /// Adds an argument.
    pub fn arg(&mut self, value: impl Arg) -> &mut Self {
        value.add_to(self.commands);
        self
    }

    /// Puts a value into the buffer, to be an argument later; see [`Commands::put`].
    pub fn put(&mut self, value: Vec<u8>) -> Placed {
        self.commands.put(value)
    }
}
