//! The whole host, seen from outside: the real binary, real plugins, real signals.

mod command_line;
mod durability;
mod hostile;
mod plugins;
mod predecessors;
mod semantics;
mod serving;
mod stores;
mod weather;
