//! Compiled code on disk.
//!
//! Compiled code is machine code that the host runs with its own rights. So a file is loaded only when it is
//! ours beyond doubt: in a folder and a file that nobody else can write, and with a code (HMAC-SHA-256) under a key that only this
//! installation has. The code covers the engine's compatibility hash, the component's digest and the compiled bytes, so
//! that no file can stand in for another one. In doubt a file is ignored and written anew.

use std::fs::{File, OpenOptions, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
/// A compiled component may have this many bytes; a larger one is compiled each time.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A folder with compiled code.
#[derive(Debug)]
pub struct CodeCache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    compatibility: String,
}

/// Where a component's code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the cache.
    Cached,
    /// Compiled now.
    Compiled,
}

impl CodeCache {
    /// Opens the cache in this folder, which is made when it is missing. The error says why there can be no cache.
    pub fn open(folder: &Path, engine: &Engine) -> Result<Self, String> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
        let metadata = std::fs::symlink_metadata(folder).map_err(|error| format!("`{}`: {error}", folder.display()))?;
        if !metadata.is_dir() {
            return Err(format!("`{}` is no folder", folder.display()));
        }
        ours(&metadata).map_err(|why| format!("the folder `{}` {why}", folder.display()))?;
        let key = key(folder).map_err(|error| format!("the key in `{}`: {error}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), key, compatibility: compatibility(engine) })
    }

    /// The compiled component: from the cache or, failing that, compiled and put there. Blocks for as long as it takes to compile.
    pub fn component(&self, engine: &Engine, digest: &str, wasm: &[u8]) -> wasmtime::Result<(Component, Source)> {
        let path = self.folder.join(format!("{}-{digest}.cwasm", self.compatibility));
        match self.load(engine, &path, digest) {
            Ok(component) => return Ok((component, Source::Cached)),
            Err(Miss::Absent) => {}
            Err(Miss::Refused(why)) => {
                tracing::warn!(path = %path.display(), why, code = "CODE_CACHE_REFUSED", "cached code is not trusted and will be rebuilt");
            }
        }
        let compiled = engine.precompile_component(wasm)?;
        if let Err(error) = self.save(&path, digest, &compiled) {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be kept; it is compiled again at the next start");
        }
        Ok((trust(engine, &compiled)?, Source::Compiled))
    }

    fn load(&self, engine: &Engine, path: &Path, digest: &str) -> Result<Component, Miss> {
        let folder = std::fs::symlink_metadata(&self.folder).map_err(|_| Miss::Absent)?;
        ours(&folder).map_err(|why| Miss::Refused(format!("its folder {why}")))?;
        let content = read_ours(path, FILE_BYTES_MAX)?;
        let refused = |why: &str| Miss::Refused(why.to_owned());
        let (tag, compiled) = content.split_at_checked(TAG_BYTES).ok_or_else(|| refused("it is cut off"))?;
        if !equal(tag, &self.tag(digest, compiled)) {
            return Err(refused("it was changed, or written by another installation"));
        }
        trust(engine, compiled).map_err(|error| Miss::Refused(format!("{error:#}")))
    }

    /// Writes beside and renames, so that no reader ever sees half a file.
    fn save(&self, path: &Path, digest: &str, compiled: &[u8]) -> std::io::Result<()> {
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = std::fs::remove_file(&beside);
        let mut file = private_file(&beside)?;
        let written = file
            .write_all(&self.tag(digest, compiled))
            .and_then(|()| file.write_all(compiled))
            .and_then(|()| std::fs::rename(&beside, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }

    fn tag(&self, digest: &str, compiled: &[u8]) -> [u8; TAG_BYTES] {
        hmac(&self.key, &[self.compatibility.as_bytes(), digest.as_bytes(), compiled])
    }
}

enum Miss {
    Absent,
    Refused(String),
}

/// Makes machine code callable.
#[expect(unsafe_code, reason = "wasmtime cannot check compiled code; only this function loads any")]
fn trust(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from `Engine::precompile_component`, either just now in this process, or through a file whose HMAC
    // under this installation's private key was checked on the very bytes in memory, and whose compatibility hash
    // (version and settings of wasmtime) is part of what the HMAC covers.
    unsafe { Component::deserialize(engine, compiled) }
}

/// Compiles without any cache.
pub(crate) fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Component> {
    Component::from_binary(engine, wasm)
}

/// Refuses what somebody else owns or can write. The answer goes behind the thing's name.
fn ours(metadata: &std::fs::Metadata) -> Result<(), String> {
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        return Err(format!("belongs to user {} and not to {me}, who runs the host", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("can be written by others (mode {:o}); allow its owner alone", metadata.mode() & 0o777));
    }
    Ok(())
}

/// Reads a file that is ours: checked on the open file, so that nobody can change it in between.
fn read_ours(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Miss> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Miss::Absent),
        Err(error) => return Err(Miss::Refused(error.to_string())),
    };
    let metadata = file.metadata().map_err(|error| Miss::Refused(error.to_string()))?;
    if !metadata.is_file() {
        return Err(Miss::Refused("it is no file".to_owned()));
    }
    ours(&metadata).map_err(|why| Miss::Refused(format!("it {why}")))?;
    if metadata.len() > bytes_max {
        return Err(Miss::Refused(format!("it has {} bytes, allowed are {bytes_max}", metadata.len())));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut content).map_err(|error| Miss::Refused(error.to_string()))?;
    Ok(content)
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// This installation's key; a new one when there is none that is ours, which makes all older files worthless.
fn key(folder: &Path) -> std::io::Result<[u8; KEY_BYTES]> {
    let path = folder.join(KEY_FILE);
    match read_ours(&path, KEY_BYTES as u64) {
        Ok(content) => {
            if let Ok(key) = content.try_into() {
                return Ok(key);
            }
        }
        Err(Miss::Absent) => {}
        Err(Miss::Refused(why)) => {
            tracing::warn!(path = %path.display(), why, code = "CODE_CACHE_REFUSED", "the key of the code cache is not trusted and will be replaced");
        }
    }
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let beside = folder.join(format!("{KEY_FILE}.{}.tmp", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    private_file(&beside)?.write_all(&key)?;
    std::fs::rename(&beside, &path)?;
    Ok(key)
}

/// The engine's version and settings as a file name.
fn compatibility(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn finish(&self) -> u64 {
            unreachable!("only the bytes that are written matter")
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(&hasher.0.finalize()[..16])
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// HMAC-SHA-256 (RFC 2104) over parts; each part's length goes before it, so that parts cannot flow into each other.
fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    let mut inner = Sha256::new_with_prefix(pad(key, 0x36));
    for part in parts {
        inner.update((part.len() as u64).to_le_bytes());
        inner.update(part);
    }
    let mut outer = Sha256::new_with_prefix(pad(key, 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn pad(key: &[u8; KEY_BYTES], byte: u8) -> [u8; 64] {
    let mut block = [byte; 64];
    block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
    block
}

/// Compares without telling by its duration where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
