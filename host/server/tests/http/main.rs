//! The HTTP side against an engine in memory.

mod api;
mod connections;
mod control;
mod events;
mod health;
mod support;
