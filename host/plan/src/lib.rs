//! Documents in, validated plans out. Pure: no clock, no I/O, no randomness, no async.

pub mod condition;
pub mod limits;
pub mod plan;
pub mod schema;
pub mod template;
