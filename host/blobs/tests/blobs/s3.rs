//! What only storage on another machine does.

use std::time::{Duration, Instant};

use compozy_blobs::S3Options;
use compozy_engine::blob_store::{BlobStore as _, BlobStoreError};
use s3_test_server::S3Server;

use crate::stores::{digest, options};

#[test]
fn storage_that_goes_away_is_unavailable_until_it_is_back() {
    let mut server = S3Server::start().expect("a server");
    let blobs = options(&server).open().expect("options that are right");
    let value = b"kept";
    let key = digest(value);
    blobs.put(&key, value).expect("put");
    server.stop();
    let begun = Instant::now();
    for error in [
        blobs.put(&key, value).expect_err("away"),
        blobs.get(&key, 4).expect_err("away"),
        blobs.delete(&key).expect_err("away"),
        blobs.list(&mut |_| true).expect_err("away"),
    ] {
        assert!(matches!(error, BlobStoreError::Unavailable { .. }) && error.retryable(), "{error:?}");
        assert!(error.to_string().contains(&server.endpoint()), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_mins(1), "four refusals took {:?}", begun.elapsed());
    server.restart().expect("the same port");
    assert_eq!(blobs.get(&key, 4).expect("back").as_deref(), Some(&value[..]));
    blobs.put(&digest(b"more"), b"more").expect("back");
}

#[test]
fn wrong_keys_and_a_missing_bucket_are_refused_and_no_outage() {
    let server = S3Server::start().expect("a server");
    let right = options(&server);
    let wrong_secret = S3Options { secret_access_key: "wrong".to_owned(), ..right.clone() };
    let unknown_key = S3Options { access_key_id: "nobody".to_owned(), ..right.clone() };
    let no_bucket = S3Options { bucket: "missing".to_owned(), ..right };
    for (case, options) in [("secret", wrong_secret), ("key", unknown_key), ("bucket", no_bucket)] {
        let blobs = options.open().expect("nothing was asked yet");
        let mut errors =
            vec![blobs.get(&digest(b"x"), 1).expect_err("refused"), blobs.list(&mut |_| true).expect_err("refused")];
        // This server makes a bucket that is written to.
        if case != "bucket" {
            errors.push(blobs.put(&digest(b"x"), b"x").expect_err("refused"));
        }
        for error in errors {
            assert!(matches!(error, BlobStoreError::Refused { .. }) && !error.retryable(), "{case}: {error:?}");
            assert!(!error.to_string().contains("test-secret"), "{case}: {error}");
        }
    }
}

#[test]
fn prefixes_keep_projects_apart() {
    let server = S3Server::start().expect("a server");
    let one = options(&server).open().expect("options that are right");
    let other = S3Options { prefix: "project/on".to_owned(), ..options(&server) }.open().expect("right as well");
    one.put(&digest(b"x"), b"x").expect("put");
    assert_eq!(other.get(&digest(b"x"), 1).expect("it answers"), None);
    let mut found = 0;
    other
        .list(&mut |page| {
            found += page.len();
            true
        })
        .expect("it lists");
    assert_eq!(found, 0);
}
