//! The operator's Redis server, seen through a keyhole: keys under the plugin's own prefix only (capability `redis`).
//!
//! ```no_run
//! use compozy_sdk::redis;
//!
//! # fn main() -> Result<(), redis::RedisError> {
//! let reply = redis::run(|commands| {
//!     commands.command("SET").arg("city").arg("Lisbon").arg("PX").arg(60_000);
//!     commands.command("GET").arg("city");
//! })?;
//! let [written, city] = reply.array()?;
//! written.check()?;
//! println!("{}", city.get::<&str>()?);
//!
//! let add = redis::script!("return redis.call('INCRBY', KEYS[1], ARGV[1])")?;
//! let sum: i64 = add.invoke(|call| {
//!     call.key("visits").arg(1);
//! })?.get()?;
//! # Ok(())
//! # }
//! ```
//!
//! The host puts the plugin's prefix before each key and takes it off again. It knows the keys of the commands on its allow-list
//! and those that a script declares; what a script names by itself is limited by the server's ACL alone, so declare all of them.
//!
//! Commands and arguments are written to one buffer that is used again, and answers are read where they lie: a call costs no
//! allocation of its own. Scripts are prepared once per instance by [`script!`](crate::redis::script); the server keeps them by
//! their hash.

mod commands;
mod error;
mod reply;
mod script;

pub use commands::{Arg, Arguments, Commands, Joined, Placed};
pub use reply::{FromValue, List, Reply, Value};
pub use script::{Call, Script};

#[doc(inline)]
pub use crate::__redis_script as script;
use crate::bindings::imports::compozy::host::redis as host;
pub use crate::bindings::imports::compozy::host::redis::{FoundKeys, RedisError};

/// Runs 1 to 1,000 commands one after the other in one round trip; others may come between. A command that fails does not keep
/// the others from running: its place in the answer holds the error.
///
/// # Errors
///
/// As [`RedisError`] tells.
pub fn run(build: impl FnOnce(&mut Commands)) -> Result<Reply, RedisError> {
    send(build, host::Atomicity::Pipeline)
}

/// Runs 1 to 1,000 commands as one step (`MULTI`, `EXEC`): nobody comes between. A command that fails does not undo the others.
///
/// # Errors
///
/// As [`RedisError`] tells.
pub fn transaction(build: impl FnOnce(&mut Commands)) -> Result<Reply, RedisError> {
    send(build, host::Atomicity::Transaction)
}

fn send(build: impl FnOnce(&mut Commands), atomicity: host::Atomicity) -> Result<Reply, RedisError> {
    if !crate::IN_HOST {
        return Err(outside());
    }
    Commands::with(build, |commands| host::run(commands, atomicity).map(Reply::new))
}

/// Walks over the plugin's keys that start with `prefix`, literally. A key that exists during the whole walk comes at least once;
/// keys may come twice and pages may be empty. `max` (1 to 1,000) is a hint.
///
/// # Errors
///
/// As [`RedisError`] tells.
pub fn scan(prefix: &str, cursor: Option<&str>, max: u32) -> Result<FoundKeys, RedisError> {
    if crate::IN_HOST { host::scan(prefix, cursor, max) } else { Err(outside()) }
}

/// A script that is prepared when it is first used and kept for the life of the instance: `script!("return 1")?` is a
/// `&'static` [`Script`].
///
/// A failed preparation is tried again the next time. An instance can have 256 scripts.
#[doc(hidden)]
#[macro_export]
macro_rules! __redis_script {
    ($source:expr) => {{
        ::std::thread_local! {
            static SCRIPT: ::core::cell::OnceCell<&'static $crate::redis::Script> =
                const { ::core::cell::OnceCell::new() };
        }
        SCRIPT.with(|cell| $crate::redis::Script::once(cell, $source))
    }};
}

fn outside() -> RedisError {
    RedisError::Denied(crate::outside("compozy:host/redis"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_denied_outside_of_the_host() {
        let denied = |error: RedisError| matches!(error, RedisError::Denied(why) if why.contains("compozy:host/redis"));
        assert!(denied(run(|_| {}).unwrap_err()));
        assert!(denied(transaction(|_| {}).unwrap_err()));
        assert!(denied(scan("", None, 1).unwrap_err()));
        assert!(denied(script!("return 1").unwrap_err()));
    }
}
