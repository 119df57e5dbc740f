//! The plugins under `tests/guests`, built by `cargo xtask build`.

use std::fs;

use anyhow::{Context, Result};

use crate::project::{Sandbox, checkout};

/// Copies a guest (`echo`, `hostile`) into the sandbox's plugin folder; `settings` is added to its `plugin.toml`.
pub fn install(sandbox: &Sandbox, guest: &str, settings: &str) -> Result<()> {
    install_as(sandbox, guest, guest, settings)
}

/// The same as a plugin of another name.
pub fn install_as(sandbox: &Sandbox, guest: &str, name: &str, settings: &str) -> Result<()> {
    let from = checkout().join("tests/guests").join(guest);
    let manifest = fs::read_to_string(from.join("plugin.toml")).with_context(|| format!("manifest of `{guest}`"))?;
    let manifest = manifest.replacen(&format!("name = \"{guest}\""), &format!("name = \"{name}\""), 1);
    sandbox.write(&format!("plugins/{name}/plugin.toml"), format!("{manifest}\n{settings}"))?;
    let component = fs::read(from.join(format!("{guest}.wasm")))
        .with_context(|| format!("the guest `{guest}` is not built: run `cargo xtask build` first"))?;
    sandbox.write(&format!("plugins/{name}/{name}.wasm"), component)?;
    Ok(())
}
