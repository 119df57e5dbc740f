//! Where the program is looked for.

use std::env;
use std::path::PathBuf;

use compozy_dev_server::on_path;

/// The release of the Temporal CLI that `cargo xtask setup temporal` builds.
pub const VERSION: &str = "1.8.2";
/// The variable with the path of a program to use in place of any other.
pub const OVERRIDE: &str = "COMPOZY_TEMPORAL";

/// The program: `$COMPOZY_TEMPORAL`, otherwise `temporal` on the PATH, otherwise [`cached`]. The error says what to do.
pub fn program() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(OVERRIDE).map(PathBuf::from) {
        let missing =
            || format!("{OVERRIDE} is `{}`, which is no program; correct it, or leave it out", path.display());
        return path.is_file().then_some(path.clone()).ok_or_else(missing);
    }
    on_path().or_else(|| cached().filter(|path| path.is_file())).ok_or_else(|| {
        "there is no Temporal CLI: run `cargo xtask setup temporal`, put `temporal` on the PATH, or leave these tests out with \
         `cargo xtask test --without temporal`"
            .to_owned()
    })
}

/// Where `cargo xtask setup temporal` puts it: `$XDG_CACHE_HOME/compozy-host/temporal-VERSION/temporal`, outside of the checkout.
/// `None` where there is no home.
pub fn cached() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("compozy-host").join(format!("temporal-{VERSION}")).join("temporal"))
}
