//! Where large values are kept: a value is written, read and removed.

use std::io;
use std::path::Path;

use compozy_config::Config;
use compozy_config::config::{BlobsConfig, S3Config};
use compozy_embed::s3_blobs;
use compozy_engine::blob_store::BlobStore as _;
use sha2::{Digest as _, Sha256};

use super::temporal::reachable;
use super::{Check, SERVICE_WAIT, State};

const NAME: &str = "blobs";

/// Looks at the store for large values.
pub(super) async fn check_blobs(config: &Config) -> Vec<Check> {
    match &config.blobs {
        // It is in the data folder, which is looked at by itself.
        BlobsConfig::Folder(None) => Vec::new(),
        BlobsConfig::Folder(Some(folder)) => vec![shared_folder(folder)],
        BlobsConfig::S3(s3) => {
            let amazon = format!("https://s3.{}.amazonaws.com", s3.region);
            let endpoint = s3.endpoint.as_deref().unwrap_or(&amazon);
            let first = reachable(NAME, "blobs.s3.endpoint", endpoint, config.start_timeout.min(SERVICE_WAIT)).await;
            if first.state != State::Ok {
                return vec![first];
            }
            let s3 = s3.clone();
            let probed = tokio::task::spawn_blocking(move || bucket(&s3)).await;
            vec![probed.unwrap_or_else(|error| Check::problem(NAME, error.to_string(), ""))]
        }
    }
}

/// A value is written, read and removed.
fn bucket(config: &S3Config) -> Check {
    let advice = "check `blobs.s3`: bucket, region, keys and their rights to write, read, list and remove";
    let value = format!("compozy-doctor {}", std::process::id());
    let digest = hex::encode(Sha256::digest(value.as_bytes()));
    let probe = || -> Result<(), String> {
        let blobs = s3_blobs(config).map_err(|error| error.to_string())?;
        blobs.put(&digest, value.as_bytes()).map_err(|error| error.to_string())?;
        let read = blobs.get(&digest, value.len() as u64).map_err(|error| error.to_string())?;
        blobs.delete(&digest).map_err(|error| error.to_string())?;
        if read.as_deref() == Some(value.as_bytes()) {
            return Ok(());
        }
        Err("what was read is not what was written".to_owned())
    };
    match probe() {
        Ok(()) => Check::ok(NAME, format!("bucket `{}`: a value was written, read and removed", config.bucket)),
        Err(reason) => Check::problem(NAME, format!("bucket `{}` cannot be used: {reason}", config.bucket), advice),
    }
}

fn shared_folder(folder: &Path) -> Check {
    let shown = folder.display();
    let advice = "mount or make the folder, and let this user write to it, or change `blobs.folder`";
    if !folder.is_dir() {
        return Check::problem(NAME, format!("there is no folder `{shown}`"), advice);
    }
    match probe(folder) {
        Ok(()) => Check::ok(NAME, format!("`{shown}`: a value was written, read and removed")),
        Err(error) => Check::problem(NAME, format!("`{shown}` cannot be used: {error}"), advice),
    }
}

fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".compozy-doctor-{}", std::process::id()));
    let value = std::process::id().to_string();
    std::fs::write(&path, &value)?;
    let read = std::fs::read_to_string(&path);
    std::fs::remove_file(&path)?;
    if read? != value {
        return Err(io::Error::other("what was read is not what was written"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_written_to_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(shared_folder(folder.path()).state, State::Ok);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
        let gone = shared_folder(&folder.path().join("gone"));
        assert!(gone.state == State::Problem && gone.advice.contains("blobs.folder"), "{gone:?}");
    }
}
