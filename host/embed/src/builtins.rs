//! The plugins that are part of the binary. They pass through the same loader and the same limits as all others.

use std::borrow::Cow;

use compozy_runtime::Builtin;

/// One built-in, as `build.rs` embedded it.
#[derive(Debug)]
pub struct Embedded {
    /// Its name.
    pub name: &'static str,
    /// The text of its `plugin.toml`.
    pub manifest: &'static str,
    /// Its component.
    pub component: &'static [u8],
}

/// The plugins of the binary that are of use, for a runtime.
pub fn builtins(of_use: impl Fn(&str) -> bool) -> Vec<Builtin> {
    let one = |embedded: &Embedded| Builtin {
        manifest: Cow::Borrowed(embedded.manifest),
        component: Cow::Borrowed(embedded.component),
    };
    EMBEDDED.iter().filter(|embedded| of_use(embedded.name)).map(one).collect()
}

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
