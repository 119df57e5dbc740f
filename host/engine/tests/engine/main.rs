//! The embedded engine from outside: real plans, a scripted executor, real files, and processes that are killed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in its helpers")]

mod blobs;
mod children;
mod common;
mod control;
mod crash;
mod dispatch;
mod flow;
mod history;
mod load;
mod retention;
mod retry;
mod run;
mod script;
mod signals;
mod stop;
mod storage;
mod time;
mod timeouts;
