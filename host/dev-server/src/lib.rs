//! A Temporal development server as a supervised child process: started, watched, restarted when it dies, stopped.
//!
//! ```no_run
//! use compozy_dev_server::{DevServer, Options};
//!
//! let server = DevServer::start(Options::new("data/temporal"))?;
//! println!("Temporal is served at {}", server.address());
//! server.stop();
//! # Ok::<(), compozy_dev_server::DevServerError>(())
//! ```
//!
//! The program is the Temporal CLI, which carries the whole server. Its database is one file in a folder of its own, its port is its
//! own and stays the same from start to start where that is possible. It never outlives the process that started it, and nothing is
//! adopted: a server that somebody else left behind is neither used nor stopped.
//!
//! The parts that it is made of ([`Launch`], [`Process`], [`serves`]) are public, so that tests can do to a server what nobody wants.

mod binary;
mod error;
mod folder;
mod launch;
mod options;
mod probe;
mod process;
mod server;
mod supervisor;

pub use binary::{INSTALL, on_path, program};
pub use error::DevServerError;
pub use launch::{HOST, Launch, free_port};
pub use options::{Backoff, Options, START_TIMEOUT_DEFAULT, STOP_TIMEOUT_DEFAULT};
pub use probe::serves;
pub use process::{Ended, Process};
pub use server::{DevServer, State};
