//! Write plugins for compozy-host: task executors and storage backends as sandboxed WebAssembly components.
//!
//! # A task plugin
//!
//! ```no_run
//! use compozy_sdk::{Context, Json, TaskError, json, task_plugin};
//!
//! #[derive(serde::Deserialize)]
//! struct Input {
//!     name: String,
//! }
//!
//! fn greet(input: Input, _: &Context) -> Result<Json, TaskError> {
//!     Ok(json!({ "greeting": format!("Hello, {}!", input.name) }))
//! }
//!
//! task_plugin! {
//!     /// Greets someone by name.
//!     "greet" => greet,
//! }
//! # fn main() {}
//! ```
//!
//! The crate's type is `cdylib` (and `rlib`, to test it), and `cargo build --target wasm32-wasip2 --release` makes the
//! component. A `plugin.toml` beside the `.wasm` gives its name and what it wants from the host.
//!
//! # A storage backend
//!
//! Implement [`store::Cache`], [`store::Locks`], [`store::Events`], [`store::ConfigStore`] or [`store::MemoryStore`] for a type, and name the roles:
//! `store_plugin!(MyStore: cache, config_store)`. See [`store`].
//!
//! # What the host offers
//!
//! | module | needs the capability | what it is |
//! |---|---|---|
//! | [`mod@log`] and [`info!`], [`warn!`](crate::warn), ... | - | structured lines in the host's log |
//! | [`Context::heartbeat`] | - | signs of life, and the wish to end |
//! | [`sql`] | `sql` | a private SQLite database |
//! | [`redis`] | `redis` | the operator's Redis server, keys under the plugin's own prefix |
//! | [`stores`] | `stores` | cache, configurations and memories, under the plugin's own name |
//! | `http` (feature) | `http` with hosts | outgoing HTTP requests |
//! | `std::fs` | `folders` | the folders that the operator granted |
//!
//! A capability must be asked for in `plugin.toml` *and* granted by the operator. Without it each function answers
//! with an error that says so; nothing panics.
//!
//! # Limits
//!
//! An attempt has a budget of fuel, wall time, memory, log bytes and output bytes. A call that exceeds one is ended by
//! the host, which names the limit; a panic ends it too. Either way the instance is thrown away, and nothing that it
//! did can harm the next call. So no state survives between two tasks: keep it in [`stores`] or [`sql`].
//!
//! # Tests
//!
//! The logic is plain Rust: `cargo test` runs it on your machine. Call your function with [`Context::for_tests`].
//! Outside the host log lines go to standard error, and every other import answers `denied`.

#[doc(hidden)]
pub mod bindings;
mod context;
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod log;
pub mod redis;
pub mod sql;
pub mod store;
pub mod stores;
#[doc(hidden)]
pub mod task;

pub use context::{Canceled, Context};
pub use error::{Failure, TaskError};
/// Any JSON value, for inputs and outputs without a type of their own.
pub use serde_json::Value as Json;
/// Makes a [`Json`] value: `json!({ "greeting": text })`.
pub use serde_json::json;

/// True inside the host, false in a test on the author's machine, where there is nobody to import from.
pub(crate) const IN_HOST: bool = cfg!(target_family = "wasm");

/// What an import answers outside the host.
pub(crate) fn outside(interface: &str) -> String {
    format!("`{interface}` answers only inside compozy-host, not in a native test")
}
