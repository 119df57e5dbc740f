//! The conformance suite of the store contracts (`wit/store`): one set of rules for every backend, whoever wrote it.
//!
//! # Use
//!
//! Say how a backend is opened by implementing [`Subject`] and [`Backend`], then run the [`Suite`]:
//!
//! ```
//! # use compozy_conformance::{Backend, Options, Report, Subject, Suite};
//! # use compozy_runtime::{Role, stores::Stores};
//! struct MyBackends;
//! struct MyBackend(Stores);
//!
//! #[async_trait::async_trait]
//! impl Subject for MyBackends {
//!     async fn open(&self) -> Result<Box<dyn Backend>, String> {
//!         // For a component: a runtime on a new temporary folder, kept beside the stores.
//!         Ok(Box::new(MyBackend(Stores::default())))
//!     }
//! }
//!
//! impl Backend for MyBackend {
//!     fn stores(&self) -> Stores {
//!         self.0.clone()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
//! let options = Options { operations: 1_000, ..Options::default() };
//! let print = &mut |report: &Report| println!("{report}");
//! match Suite::new(options).run(&MyBackends, &[Role::Cache], print).await {
//!     Ok(summary) => println!("{summary}"), // `N passed, N failed`
//!     Err(why) => println!("{why}"),
//! }
//! # });
//! ```
//!
//! [`Options::clock`] makes rules about time exact and quick: open the runtime with a [`ManualClock`] and hand the same one to the suite.
//! A backend that can be closed and opened again on the same data says so by [`Backend::reopen`].
//!
//! # How it works
//!
//! - A *rule* has a name in kebab-case, for example `cache/missing-is-not-empty`. Most are short scripts (`script`) that are played
//!   on a fresh backend beside a reference model (`model`), which says what each step has to answer.
//! - `*/agrees-with-the-model` plays long random scripts in the same way, with clock turns, restarts and moves to fresh backends between.
//! - A script that fails is made as short as possible (`shrink`) before it is shown.
//! - Rules about concurrency let 32 clients work and check that what they saw fits some order of the calls (`linear`).
//!
//! The suite is itself tested: `tests/broken` has a correct backend, and many with one fault each that the rule meant for it must find.

mod compare;
mod concurrent;
mod keys;
mod linear;
mod model;
mod report;
mod rng;
mod rules;
mod script;
mod shrink;
mod subject;
mod suite;
mod time;

pub use report::{Failure, Outcome, Report, Reporter, Summary};
pub use subject::{Backend, ManualClock, Subject, TurnableClock};
pub use suite::{Options, Suite};
