//! Embeds the built-in plugins: writes `builtins.rs`, which names their manifests and components.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Every built-in; the folder of each is `plugins/<name>`.
const BUILTINS: [&str; 4] = ["sqlite", "redis", "weather", "files"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../plugins");
    let mut code = String::from("/// Manifest and component of each built-in.\npub const EMBEDDED: &[Embedded] = &[\n");
    for name in BUILTINS {
        let manifest = root.join(name).join("plugin.toml");
        let component = root.join(name).join(format!("{name}.wasm"));
        for file in [&manifest, &component] {
            println!("cargo::rerun-if-changed={}", file.display());
        }
        let (Some(manifest), Some(component)) = (existing(&manifest), existing(&component)) else {
            println!("cargo::error=the built-in plugin `{name}` is not built yet: run `cargo xtask build` first");
            continue;
        };
        let (manifest, component) = (manifest.to_string_lossy(), component.to_string_lossy());
        writeln!(
            code,
            "    Embedded {{ name: {name:?}, manifest: include_str!({manifest:?}), component: include_bytes!({component:?}) }},"
        )
        .expect("writing to a string cannot fail");
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("builtins.rs");
    fs::write(&out, code).unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
}

fn existing(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}
