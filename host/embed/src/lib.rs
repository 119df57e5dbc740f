//! The host as a library: everything that the program `compozy-host` is made of, but for its command line.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use compozy_embed::Host;
//! use serde_json::json;
//!
//! let host = Host::builder("./data").project("./examples/weather").start().await?;
//! let id = host.start("weather", json!({ "city": "Lisbon" })).await?;
//! println!("{:?}", host.wait(&id).await?.state.output);
//! host.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`options`]: what a host is built with; [`builder`]: how
//! - `prepare`, `launch`: the order in which a host starts; `parts` is what was begun, and ends it in reverse
//! - [`host`]: a host that works; [`error`]: why it does not
//! - [`engine`]: which engine runs the workflows
//! - [`project`], [`stores`], [`builtins`]: what is read before anything begins
//! - [`rates`]: how often one client may ask several hosts together
//! - [`executor`], `memory`: tasks on plugins and on the memory store
//! - `info`, `services`, `upkeep`: what is told of a host, what it rests on, and what it does beside its work
//!
//! There is no state outside of a [`Host`]: several of them work in one process, each with a data folder of its own.

pub mod builder;
pub mod builtins;
mod configured;
pub mod engine;
pub mod error;
pub mod executor;
pub mod host;
mod info;
mod launch;
mod memory;
mod onlooker;
pub mod options;
mod parts;
mod prepare;
pub mod project;
pub mod rates;
mod services;
mod slots;
pub mod stores;
pub mod temporal;
mod upkeep;

/// What the methods of a [`Host`] take and answer.
pub use compozy_engine::EngineError;
pub use compozy_engine::port::{Control, Execution, ExecutionId, ExecutionSummary, Filter, Notice, StartRequest};
pub use compozy_interpreter::Status;
pub use compozy_runtime::{RedisSettings, StoreSelection};
pub use compozy_server::{Health, RateLimit};

pub use builder::HostBuilder;
pub use configured::{blobs, s3_blobs, temporal_address};
pub use engine::{EngineChoice, EngineFactory, EngineParts};
pub use error::{HostError, StartError, StartProblem};
pub use executor::PluginExecutor;
pub use host::Host;
pub use onlooker::onlooker;
pub use options::{Documents, HostOptions, Mode, OperatorSettings, Overrides, ProjectSource};
pub use prepare::{Prepared, catalog};
pub use project::Project;
pub use rates::SharedRates;
pub use stores::StoreChoice;
pub use temporal::{TemporalChoice, TemporalServer};
