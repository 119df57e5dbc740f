//! How a store plugin behaves, rule by rule, through the typed facades and on the real component.
//!
//! The built-in plugin is built by `cargo xtask build`; `COMPOZY_SQLITE_WASM` names another file.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod cache;
mod config;
mod events;
mod locks;
mod memory;
mod migration;
mod moving;
mod plans;
mod support;
mod sweeping;
