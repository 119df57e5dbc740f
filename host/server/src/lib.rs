//! The HTTP side of the host: routes under `/api/v0`, and errors as problem documents with stable codes.
//!
//! It knows the engine by its port and the rest of the host by [`HostInfo`]; it knows neither SQL nor WebAssembly.
//!
//! # Layout
//! - [`router`] and `routes/`: one file per resource
//! - [`problem`]: the table of error codes, and how an error becomes an answer
//! - `guard`: what surrounds every route (concurrency, time, panics); `body`: how JSON is read
//! - [`rate`]: how often one client may ask
//! - [`serve()`]: connections, their limits and a graceful stop
//! - [`client`]: how the command line talks to a host that runs
//! - [`view`]: an execution as a document, also for the command line

mod body;
pub mod client;
mod guard;
mod health;
pub mod limits;
pub mod problem;
pub mod rate;
mod routes;
mod serve;
mod state;
pub mod time;
pub mod view;

pub use health::Health;
pub use rate::{LocalRates, RateLimit, RateLimiter, Verdict};
pub use routes::{API, router, watch_router};
pub use serve::serve;
pub use state::{AppState, HostHealth, HostInfo, Lifecycle, Workflows};
