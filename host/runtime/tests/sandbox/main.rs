//! Plugins that misbehave, plugins that are none, and the healthy ones beside them.
//!
//! The guests are built by `cargo xtask build`; those that Rust cannot express are written as text in `wat/`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in its helpers")]

mod cache;
mod capabilities;
mod limits;
mod loading;
mod support;
