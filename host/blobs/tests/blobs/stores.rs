//! The stores that are judged, each with a way to get at what it keeps.

use std::path::{Path, PathBuf};

use compozy_blobs::{ObjectBlobs, S3Options};
use compozy_engine::blob_store::{BlobStore, FileBlobs};
use s3_test_server::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use sha2::{Digest as _, Sha256};

pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes that cannot be made much smaller.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(bytes).collect()
}

pub(crate) fn options(server: &S3Server) -> S3Options {
    let options = S3Options::new(server.endpoint(), BUCKET, ACCESS_KEY_ID, SECRET_ACCESS_KEY);
    S3Options { allow_http: true, prefix: "project/one".to_owned(), ..options }
}

/// A store under judgement.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) store: Box<dyn BlobStore>,
    /// Below this lie its files.
    pub(crate) files: PathBuf,
    _folder: Option<tempfile::TempDir>,
    _server: Option<S3Server>,
}

impl Subject {
    /// The file of a value, wherever it lies.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        let name = format!("{}.zst", &digest[2..]);
        find(&self.files, &name).unwrap_or_else(|| panic!("{}: no file {name}", self.name))
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

pub(crate) fn all() -> Vec<Subject> {
    let folder = || tempfile::tempdir().expect("a folder");
    let (files, shared) = (folder(), folder());
    let server = S3Server::start().expect("a server");
    vec![
        Subject {
            name: "files",
            store: Box::new(FileBlobs::new(files.path().join("blobs"))),
            files: files.path().to_owned(),
            _folder: Some(files),
            _server: None,
        },
        Subject {
            name: "shared folder",
            store: Box::new(ObjectBlobs::folder(shared.path().join("blobs"))),
            files: shared.path().to_owned(),
            _folder: Some(shared),
            _server: None,
        },
        Subject {
            name: "S3",
            store: Box::new(options(&server).open().expect("options that are right")),
            files: server.objects(),
            _folder: None,
            _server: Some(server),
        },
    ]
}
