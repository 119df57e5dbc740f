//! The embedded engine from outside: real plans, a scripted executor, real files, and processes that are killed.

mod common;
mod crash;
mod flow;
mod load;
mod retry;
mod run;
mod stop;
mod storage;
mod time;
