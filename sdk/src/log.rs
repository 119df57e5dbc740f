//! Structured lines in the host's log.
//!
//! ```
//! # let city = "Lisbon";
//! compozy_sdk::info!("climate looked up", city = city, months = 12);
//! ```
//!
//! The message is a constant phrase, the values are fields. All lines of a call together are bounded by `log_bytes`
//! (64 KiB unless the operator says otherwise); a call that writes more is ended.

use std::fmt;
use std::sync::Once;

pub use crate::bindings::imports::compozy::host::log::{Field, Level};

/// Writes a line: `log!(level, "message", name = value, ...)`. The message may name variables in braces; values need `Display`.
#[macro_export]
macro_rules! log {
    ($level:expr, $message:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::log::write($level, ::core::format_args!($message), &[
            $($crate::log::field(::core::stringify!($name), &$value)),*
        ])
    };
}

/// Writes a line for whoever debugs the plugin, in great detail.
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Trace, $($line)+) };
}

/// Writes a line for whoever debugs the plugin.
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Debug, $($line)+) };
}

/// Writes a line about something that an operator may want to know.
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Info, $($line)+) };
}

/// Writes a line about something that works, but not as it should.
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Warn, $($line)+) };
}

/// Writes a line about something that failed.
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Error, $($line)+) };
}

/// One named value of a line.
pub fn field(name: &str, value: &dyn fmt::Display) -> Field {
    Field { name: name.to_owned(), value: value.to_string() }
}

/// Writes a line. The macros are shorter.
pub fn write(level: Level, message: fmt::Arguments<'_>, fields: &[Field]) {
    if crate::IN_HOST {
        let send = |message: &str| crate::bindings::imports::compozy::host::log::log(level, message, fields);
        message.as_str().map_or_else(|| send(&message.to_string()), send);
    } else {
        print(level, message, fields);
    }
}

#[expect(clippy::print_stderr, reason = "a native test has no host to write the line")]
fn print(level: Level, message: fmt::Arguments<'_>, fields: &[Field]) {
    use fmt::Write as _;
    let mut line = format!("{level:?} {message}");
    for Field { name, value } in fields {
        let _ = write!(line, " {name}={value}");
    }
    eprintln!("{line}");
}

/// From now on a panic's message goes to the host's log, before the panic ends the call. Task plugins have this by themselves.
pub fn forward_panics() {
    static ONCE: Once = Once::new();
    if crate::IN_HOST {
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|panic| write(Level::Error, format_args!("{panic}"), &[])));
        });
    }
}
