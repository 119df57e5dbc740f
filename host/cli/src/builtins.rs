//! The plugins that are part of the binary. They pass through the same loader and the same limits as all others.

/// One built-in, as `build.rs` embedded it.
pub(crate) struct Embedded {
    /// Its name.
    pub(crate) name: &'static str,
    /// The text of its `plugin.toml`.
    pub(crate) manifest: &'static str,
    /// Its component.
    pub(crate) component: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
