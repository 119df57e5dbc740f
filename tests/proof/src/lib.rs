//! Proofs that the embedded engine keeps what it promises, on disks, clocks and executors that are worse than real ones.
//!
//! - [`disk`] is a disk that loses, tears and reorders what was not synced, and that can be full or broken for a while.
//! - [`powerloss`] cuts the power under engines at work and looks for what was acknowledged and is gone.
//! - [`simulation`] plays random histories step by step on a simulated clock and disk, and looks at everything after each.
//! - [`seeds`] goes through many seeds on all processors.
//!
//! Each proof runs in short form as a test and in long form by `cargo xtask powerloss` and `cargo xtask simulate`.

pub mod disk;
pub mod powerloss;
pub mod seeds;
pub mod simulation;
mod workflows;
