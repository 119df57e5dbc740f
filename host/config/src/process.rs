//! What of this process the configuration can see. The only part of this crate that looks outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::limits::SECRET_FILE_BYTES_MAX;

/// The environment, for [`crate::Sources`]. A name or value that is no UTF-8 is none of ours.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads a file that holds a secret, for [`crate::Sources`]: at most one byte more than is allowed, which is then refused.
pub fn read_secret(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| error.to_string())
}
