//! Where large values are kept: a value is written, read and removed.

use std::io;
use std::path::Path;

use compozy_config::Config;
use compozy_config::config::BlobsConfig;

use super::temporal::reachable;
use super::{Check, SERVICE_WAIT};

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
            vec![reachable(NAME, "blobs.s3.endpoint", endpoint, config.start_timeout.min(SERVICE_WAIT)).await]
        }
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
    use super::super::State;
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
