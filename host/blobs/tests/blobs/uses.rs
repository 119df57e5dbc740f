//! Who uses what, and what a sweep takes.

use std::cell::Cell;
use std::time::Duration;

use compozy_blobs::{ObjectBlobs, UsedBlobs};
use compozy_engine::blob_store::{BlobStore as _, Swept};
use s3_test_server::S3Server;

use crate::stores::{digest, options};

/// Times of objects are whole seconds in some storage.
const A_WHILE: Duration = Duration::from_millis(1_500);

fn stores(server: &S3Server, folder: &tempfile::TempDir) -> [(&'static str, ObjectBlobs); 2] {
    [
        ("S3", options(server).open().expect("options that are right")),
        ("shared folder", ObjectBlobs::folder(folder.path())),
    ]
}

/// Forgets what is unused at once.
fn hasty(blobs: &ObjectBlobs) -> UsedBlobs {
    UsedBlobs::new(blobs.clone()).keeping_unused(Duration::from_millis(10))
}

fn put(used: &UsedBlobs, execution: &str, text: &str) -> String {
    let digest = digest(text.as_bytes());
    used.record(execution, &digest).expect("recorded");
    used.put(&digest, text.as_bytes()).expect("put");
    digest
}

fn is_there(blobs: &ObjectBlobs, text: &str) -> bool {
    blobs.get(&digest(text.as_bytes()), text.len() as u64).expect("it answers").is_some()
}

#[test]
fn a_value_stays_while_any_living_execution_uses_it() {
    let (server, folder) = (S3Server::start().expect("a server"), tempfile::tempdir().expect("a folder"));
    for (name, blobs) in stores(&server, &folder) {
        let used = hasty(&blobs);
        let mut both = [put(&used, "dead/1", "shared"), put(&used, "dead/1", "of dead")];
        put(&used, "live.1", "shared");
        blobs.put(&digest(b"of nobody"), b"of nobody").expect("put");
        both.sort();
        assert_eq!(used.of("dead/1").expect("listed"), both, "{name}");
        assert!(used.uses("live.1", &digest(b"shared")).expect("asked"), "{name}");
        assert!(!used.uses("live.1", &digest(b"of dead")).expect("asked"), "{name}");
        std::thread::sleep(A_WHILE);

        let swept = used.sweep(&|execution| execution == "live.1", &|| true).expect("swept");
        assert_eq!(swept, Swept { executions: 1, uses: 2, blobs: 2 }, "{name}");
        assert_eq!(used.of("dead/1").expect("listed"), [] as [String; 0], "{name}");
        assert_eq!(
            ["shared", "of dead", "of nobody"].map(|text| is_there(&blobs, text)),
            [true, false, false],
            "{name}"
        );
        let again = used.sweep(&|_| true, &|| true).expect("swept");
        assert_eq!(again, Swept::default(), "{name}: a second sweep finds nothing");

        assert_eq!(used.forget("live.1").expect("forgotten"), 1, "{name}");
        assert_eq!(used.sweep(&|_| true, &|| true).expect("swept").blobs, 1, "{name}");
    }
    let left = std::fs::read_dir(folder.path().join("uses")).expect("the folder of the uses").count();
    assert_eq!(left, 1, "of executions that are gone no folder is left, only since when uses are recorded");
}

#[test]
fn what_is_new_is_not_swept_though_nobody_knows_its_execution_yet() {
    let (server, folder) = (S3Server::start().expect("a server"), tempfile::tempdir().expect("a folder"));
    for (name, blobs) in stores(&server, &folder) {
        let used = UsedBlobs::new(blobs.clone());
        put(&used, "about to begin", "used");
        blobs.put(&digest(b"new"), b"new").expect("put");
        assert_eq!(used.sweep(&|_| false, &|| true).expect("swept"), Swept::default(), "{name}");
        assert!(used.uses("about to begin", &digest(b"used")).expect("asked"), "{name}");

        // An old value that is handed to an execution which begins only now.
        std::thread::sleep(2 * A_WHILE);
        let used = UsedBlobs::new(blobs.clone()).keeping_unused(Duration::from_secs(2));
        used.record("another", &digest(b"used")).expect("recorded");
        let swept = used.sweep(&|_| false, &|| true).expect("swept");
        assert_eq!((swept.executions, swept.uses), (1, 1), "{name}");
        assert!(is_there(&blobs, "used"), "{name}");
    }
}

#[test]
fn what_was_there_before_uses_were_recorded_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = ObjectBlobs::folder(folder.path());
    let used = hasty(&blobs);
    blobs.put(&digest(b"of a journal"), b"of a journal").expect("put");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(used.sweep(&|_| false, &|| true).expect("swept"), Swept::default(), "nothing was recorded");
    put(&used, "gone", "its value");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(used.sweep(&|_| false, &|| true).expect("swept"), Swept { executions: 1, uses: 1, blobs: 1 });
    assert!(is_there(&blobs, "of a journal"));
}

#[test]
fn a_sweep_that_is_to_end_removes_nothing_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = ObjectBlobs::folder(folder.path());
    let used = hasty(&blobs);
    for n in 0..5 {
        put(&used, &format!("gone {n}"), &n.to_string());
    }
    std::thread::sleep(Duration::from_millis(50));
    let asked = Cell::new(0);
    let is_alive = |_: &str| {
        asked.set(asked.get() + 1);
        false
    };
    let swept = used.sweep(&is_alive, &|| asked.get() < 2).expect("ended");
    assert_eq!((asked.get(), swept), (2, Swept { executions: 2, uses: 2, blobs: 0 }));
    assert_eq!(used.sweep(&|_| false, &|| true).expect("swept"), Swept { executions: 3, uses: 3, blobs: 5 });
}
