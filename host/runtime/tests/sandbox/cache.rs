//! Compiled code that is not ours is never loaded.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use compozy_runtime::code_cache::{CodeCache, Source};
use compozy_runtime::engine::SandboxEngine;

use crate::support::wat;

const DIGEST: &str = "d";

fn load(cache: &CodeCache, sandbox: &SandboxEngine, digest: &str) -> Source {
    let wasm = wat("(component)");
    cache.component(sandbox.engine(), digest, &wasm).expect("it compiles in any case").1
}

fn cached_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .expect("a cached file")
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Fills a cache, does something to it, and answers where the code came from afterwards, twice.
fn after(tamper: impl FnOnce(&Path, &Path)) -> [Source; 2] {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("code");
    let sandbox = SandboxEngine::open().unwrap();
    let cache = CodeCache::open(&folder, sandbox.engine()).unwrap();
    assert_eq!(load(&cache, &sandbox, DIGEST), Source::Compiled);
    assert_eq!(load(&cache, &sandbox, DIGEST), Source::Cached);
    tamper(&folder, &cached_file(&folder));
    match CodeCache::open(&folder, sandbox.engine()) {
        Ok(reopened) => [load(&reopened, &sandbox, DIGEST), load(&reopened, &sandbox, DIGEST)],
        Err(_) => [load(&cache, &sandbox, DIGEST), load(&cache, &sandbox, DIGEST)],
    }
}

#[test]
fn untouched_code_is_loaded() {
    assert_eq!(after(|_, _| {}), [Source::Cached, Source::Cached]);
}

#[test]
fn changed_code_is_rebuilt() {
    let rebuilt = [Source::Compiled, Source::Cached];
    assert_eq!(
        after(|_, file| {
            let mut content = std::fs::read(file).unwrap();
            *content.last_mut().unwrap() ^= 1;
            std::fs::write(file, content).unwrap();
        }),
        rebuilt,
        "one bit"
    );
    assert_eq!(after(|_, file| std::fs::write(file, b"short").unwrap()), rebuilt, "cut off");
    assert_eq!(after(|_, file| std::fs::write(file, b"").unwrap()), rebuilt, "empty");
    assert_eq!(after(|folder, _| std::fs::remove_file(folder.join("key")).unwrap()), rebuilt, "another key");
    assert_eq!(after(|folder, _| mode(&folder.join("key"), 0o666)), rebuilt, "a key that others can write");
    assert_eq!(after(|_, file| mode(file, 0o620)), rebuilt, "a file that its group can write");
    assert_eq!(after(|_, file| mode(file, 0o602)), rebuilt, "a file that all can write");
}

#[test]
fn a_link_to_elsewhere_is_rebuilt() {
    let rebuilt = after(|folder, file| {
        let elsewhere = folder.join("elsewhere");
        std::fs::rename(file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, file).unwrap();
    });
    assert_eq!(rebuilt, [Source::Compiled, Source::Cached]);
}

#[test]
fn nothing_is_loaded_from_a_folder_that_others_can_write() {
    assert_eq!(after(|folder, _| mode(folder, 0o770)), [Source::Compiled, Source::Compiled]);
    assert_eq!(after(|folder, _| mode(folder, 0o707)), [Source::Compiled, Source::Compiled]);
}

#[test]
fn code_of_one_component_cannot_stand_in_for_another() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("code");
    let sandbox = SandboxEngine::open().unwrap();
    let cache = CodeCache::open(&folder, sandbox.engine()).unwrap();
    load(&cache, &sandbox, "a");
    let of_a = cached_file(&folder);
    let of_b = of_a.with_file_name(of_a.file_name().unwrap().to_str().unwrap().replace("-a.", "-b."));
    std::fs::rename(of_a, of_b).unwrap();
    assert_eq!(load(&cache, &sandbox, "b"), Source::Compiled);
}

#[test]
fn what_the_cache_writes_is_private() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("code");
    let sandbox = SandboxEngine::open().unwrap();
    let cache = CodeCache::open(&folder, sandbox.engine()).unwrap();
    load(&cache, &sandbox, DIGEST);
    let bits = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((bits(&folder), bits(&cached_file(&folder)), bits(&folder.join("key"))), (0o700, 0o600, 0o600));
}
