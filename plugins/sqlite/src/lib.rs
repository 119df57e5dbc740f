//! The built-in backend: cache, configurations and memories in the plugin's private SQLite database.
//!
//! What every role keeps to:
//!
//! - Each operation is one statement, or one transaction where it must be several.
//! - Times to live follow the host's clock. An expired row counts as gone in every statement (`expires > now`); sweeping it
//!   away later, in small steps beside writes, only gives the room back.
//! - Reads never write, except `config-store.get`, which resets the time to live.
//! - Keys are compared as bytes, so that a prefix is a range and no character is special.
//! - Statements stay prepared as long as the instance lives: a read costs one look at the clock and one crossing.

mod cache;
mod common;
mod config;
mod memory;
mod schema;

/// The type that the roles are exported for.
struct Sqlite;

compozy_sdk::store_plugin!(Sqlite: cache, config_store, memory_store);
