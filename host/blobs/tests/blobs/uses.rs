//! Who uses what, and what a sweep takes.

use std::time::Duration;

use compozy_blobs::{ObjectBlobs, Swept, UsedBlobs};
use compozy_engine::blob_store::BlobStore as _;
use s3_test_server::S3Server;

use crate::stores::{digest, options};

fn stores(server: &S3Server, folder: &tempfile::TempDir) -> [(&'static str, ObjectBlobs); 2] {
    [
        ("S3", options(server).open().expect("options that are right")),
        ("shared folder", ObjectBlobs::folder(folder.path()).expect("a folder")),
    ]
}

#[test]
fn a_value_stays_while_any_living_execution_uses_it() {
    let (server, folder) = (S3Server::start().expect("a server"), tempfile::tempdir().expect("a folder"));
    for (name, blobs) in stores(&server, &folder) {
        // Times of objects are whole seconds in some storage.
        let used = UsedBlobs::new(blobs.clone()).keeping_unused(Duration::from_millis(10));
        let [shared, of_dead, of_nobody] =
            ["shared", "of dead", "of nobody"].map(|text| (digest(text.as_bytes()), text));
        for (execution, (key, text)) in [("dead/1", &shared), ("live.1", &shared), ("dead/1", &of_dead)] {
            used.put(execution, key, text.as_bytes()).expect("put");
        }
        blobs.put(&of_nobody.0, of_nobody.1.as_bytes()).expect("put");
        let mut both = [shared.0.clone(), of_dead.0.clone()];
        both.sort();
        assert_eq!(used.of("dead/1").expect("listed"), both, "{name}");
        assert!(used.uses("live.1", &shared.0).expect("asked"), "{name}");
        assert!(!used.uses("live.1", &of_dead.0).expect("asked"), "{name}");
        std::thread::sleep(Duration::from_millis(1_500));

        let swept = used.sweep(|execution| execution == "live.1").expect("swept");
        assert_eq!(swept, Swept { executions: 1, uses: 2, blobs: 2 }, "{name}");
        assert_eq!(used.of("dead/1").expect("listed"), [] as [String; 0], "{name}");
        let there = |(key, text): &(String, &str)| blobs.get(key, text.len() as u64).expect("it answers").is_some();
        assert_eq!([&shared, &of_dead, &of_nobody].map(there), [true, false, false], "{name}");
        assert_eq!(used.sweep(|_| true).expect("swept"), Swept::default(), "{name}: a second sweep finds nothing");

        assert_eq!(used.forget("live.1").expect("forgotten"), 1, "{name}");
        assert_eq!(used.sweep(|_| true).expect("swept").blobs, 1, "{name}");
    }
}

#[test]
fn what_was_put_in_just_now_is_not_swept_though_nobody_uses_it_yet() {
    let (server, folder) = (S3Server::start().expect("a server"), tempfile::tempdir().expect("a folder"));
    for (name, blobs) in stores(&server, &folder) {
        let used = UsedBlobs::new(blobs.clone());
        blobs.put(&digest(b"new"), b"new").expect("put");
        assert_eq!(used.sweep(|_| false).expect("swept"), Swept::default(), "{name}");
        assert!(blobs.get(&digest(b"new"), 3).expect("it answers").is_some(), "{name}");
    }
}
