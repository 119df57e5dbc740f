//! Plugins in a sandbox: loading, limits, capabilities, calls, and the stores that plugins provide.
//!
//! # Layout
//!
//! - [`runtime`]: the door. Opens plugins, runs tasks, answers what is loaded
//! - [`manifest`], [`capabilities`], [`limits`]: what a plugin asks for, what the operator grants, what is enforced
//! - [`loader`]: from folders and built-ins to checked, compiled plugins; [`code_cache`] keeps compiled code
//! - [`engine`]: the one wasmtime engine and its ticker
//! - [`guest`]: what belongs to one instance; [`pool`]: instances that stores keep; `call`: budgets of one call
//! - [`selection`]: which plugin fills which store's role
//! - [`sql`], [`redis`], [`stores`]: the native side of `compozy:host/sql`, and the typed facades over store plugins
//! - [`bindings`]: the contract of `wit/`
//!
//! Only this crate knows wasmtime.

mod archive;
pub mod bindings;
mod budget;
pub mod call;
pub mod capabilities;
pub mod clock;
pub mod code_cache;
mod egress;
pub mod engine;
pub mod error;
mod gate;
pub mod guest;
pub mod identity;
mod limiter;
pub mod limits;
mod link;
pub mod loader;
mod log;
pub mod manifest;
mod pinned;
pub mod plugin;
pub mod pool;
pub mod progress;
pub mod redis;
pub mod runtime;
pub mod selection;
pub mod sql;
pub mod stores;
mod wasi;

pub use archive::Build;
pub use capabilities::{Access, FolderGrant, Grants, Origin, StoreKind};
pub use clock::{Clock, SystemClock};
pub use error::{CallError, Retry, TaskFailure};
pub use guest::GuestState;
pub use identity::Identity;
pub use limits::{Limit, LimitHit, Limits};
pub use loader::{Builtin, LoadError, PluginPolicy};
pub use pinned::PINNED_PLUGINS_MAX;
pub use plugin::{PluginHandle, Role};
pub use pool::InstancePool;
pub use progress::Supervisor;
pub use redis::RedisSettings;
pub use runtime::{OpenError, Runtime, RuntimeOptions, TaskRequest};
pub use selection::StoreSelection;
