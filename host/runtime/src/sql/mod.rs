//! The native side of `compozy:host/sql`: one private SQLite file per plugin.
//!
//! The policy (schemas, times to live, atomic steps) lives in plugins; here is only the engine behind a narrow door:
//!
//! - `database`: the file of one plugin, its pragmas, and the queue of its writers
//! - `session`: one connection, which belongs to one guest instance; transactions
//! - `compiled`: the connection and the statements that are prepared on it
//! - `guard`: what SQL may do (the authorizer) and how long it may run (the progress handler)
//! - `turn`: who writes next
//! - `values`: flat parameters in, flat rows out
//! - `error`: SQLite's result codes as typed errors
//! - `host`: the functions that guests import
//!
//! Durability: WAL with `synchronous=NORMAL`. What was acknowledged survives a crash of the process; a power failure
//! may take the last moments with it, but never damages the file.
//!
//! Pages are read through a mapping of the file, which saves a system call and a copy for each. Its price: a disk that fails while a page is
//! read ends the process, where a read by call would have failed one statement. The file is never made shorter while it is open.

mod compiled;
mod database;
mod error;
mod guard;
mod host;
mod session;
mod turn;
mod values;

pub use database::{SqlDatabase, SqlOpenError};
pub use error::SqlFailure;
pub use guard::Watch;
pub use host::{SqlAccess, Statement};
pub use session::SqlSession;
