//! The built-in backend: all five roles in the plugin's private SQLite database.
//!
//! What every role keeps to:
//!
//! - Each operation is one statement, or one transaction where it must be several.
//! - Times to live follow the host's clock. An expired row counts as gone in every statement (`expires > now`); `sweep`, which the
//!   host calls in the background, only gives the room back, in bounded steps.
//! - Reads never write, except `config-store.get`, which resets the time to live.
//! - Keys are compared as bytes, so that a prefix is a range and no character is special.
//! - Statements stay prepared as long as the instance lives: a read costs one look at the clock and one crossing.

mod bulk;
mod cache;
mod config;
mod events;
mod locks;
mod memory;
mod page;
mod report;
mod schema;

/// The type that the roles are exported for.
struct Sqlite;

compozy_sdk::store_plugin!(Sqlite: cache, locks, events, config_store, memory_store);
