//! Engines: the port, the failure model, and the embedded engine.

pub mod port;

/// Why an engine refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {}
