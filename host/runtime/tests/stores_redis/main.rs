//! How the plugin `redis` behaves, rule by rule, through the typed facades, on the real component and a real server.
//!
//! The plugin is built by `cargo xtask build`; `COMPOZY_REDIS_WASM` names another file.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod cache;
mod config;
mod events;
mod layout;
mod locks;
mod memory;
mod moving;
mod support;
