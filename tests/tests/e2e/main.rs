//! The whole host, seen from outside: the real binary, real plugins, real signals.

mod command_line;
mod compose;
mod configuration;
mod distributed;
mod durability;
mod failures;
mod hostile;
mod payloads;
mod pins;
mod plugins;
mod predecessors;
mod progress;
mod semantics;
mod serving;
mod stores;
mod weather;
