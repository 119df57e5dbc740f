//! What every blob store does.

use compozy_blobs::{ObjectBlobs, UsedBlobs};
use compozy_engine::blob_store::{BlobStore, BlobStoreError, FileBlobs};
use compozy_engine::limits::PAYLOAD_BYTES_MAX;

use crate::stores::{all, digest, noise};

fn listed(store: &dyn BlobStore) -> Vec<String> {
    let mut all = Vec::new();
    let list = store.list(&mut |mut page| {
        all.append(&mut page);
        true
    });
    list.expect("it lists");
    all.sort();
    all
}

#[test]
fn what_was_put_in_comes_out_until_it_is_deleted() {
    for subject in all() {
        let (name, store) = (subject.name, &subject.store);
        assert_eq!(listed(&**store), [] as [String; 0], "{name}");
        let values = [Vec::new(), b"one".to_vec(), vec![b'x'; 3 << 20], noise(PAYLOAD_BYTES_MAX)];
        for value in &values {
            let (digest, bytes) = (digest(value), value.len() as u64);
            assert_eq!(store.get(&digest, bytes).expect("it answers"), None, "{name}");
            store.put(&digest, value).expect("put");
            store.put(&digest, value).expect("again");
            assert!(store.get(&digest, bytes).expect("read").as_ref() == Some(value), "{name}: {bytes} bytes");
        }
        let mut expected: Vec<String> = values.iter().map(|value| digest(value)).collect();
        expected.sort();
        assert_eq!(listed(&**store), expected, "{name}");
        let stored = subject.file(&digest(&values[2])).metadata().expect("a file").len();
        assert!(stored < 10_000, "{name}: 3 MiB of one letter are stored in {stored} bytes");
        for value in &values {
            store.delete(&digest(value)).expect("deleted");
            store.delete(&digest(value)).expect("one that is not there is fine");
            assert_eq!(store.get(&digest(value), value.len() as u64).expect("it answers"), None, "{name}");
        }
        assert_eq!(listed(&**store), [] as [String; 0], "{name}");
    }
}

#[test]
fn a_damaged_value_is_noticed_and_mended_by_the_next_put() {
    let packed = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("packed");
    for subject in all() {
        let (name, store) = (subject.name, &subject.store);
        let value = b"a value that is long enough to be cut in two".to_vec();
        let (digest, bytes) = (digest(&value), value.len() as u64);
        store.put(&digest, &value).expect("put");
        let file = subject.file(&digest);
        let whole = std::fs::read(&file).expect("read");
        let cases: [(&str, Vec<u8>); 5] = [
            ("cut off", whole[..whole.len() / 2].to_vec()),
            ("garbage", b"garbage".to_vec()),
            ("another value", packed(b"another")),
            ("a longer value", packed(&vec![0; 1 << 20])),
            ("far too much", noise(1 << 20)),
        ];
        for (damage, content) in cases {
            std::fs::write(&file, content).expect("damaged");
            let found = store.get(&digest, bytes);
            let Err(error @ BlobStoreError::Damaged { .. }) = found else { panic!("{name}, {damage}: {found:?}") };
            assert!(!error.retryable(), "{name}, {damage}");
            store.put(&digest, &value).expect("put again");
            assert_eq!(store.get(&digest, bytes).expect("mended").as_ref(), Some(&value), "{name}, {damage}");
        }
        let wrong = store.get(&digest, bytes + 1);
        assert!(matches!(wrong, Err(BlobStoreError::Damaged { .. })), "{name}: another size is asked for: {wrong:?}");
    }
}

#[test]
fn a_long_list_comes_in_pages_and_ends_when_nobody_wants_more() {
    const MANY: usize = 1_200;
    for subject in all() {
        let (name, store) = (subject.name, &subject.store);
        let mut expected: Vec<String> = (0..MANY)
            .map(|n| {
                let value = n.to_string().into_bytes();
                store.put(&digest(&value), &value).expect("put");
                digest(&value)
            })
            .collect();
        expected.sort();
        let (mut found, mut pages) = (Vec::new(), 0);
        let list = store.list(&mut |page| {
            assert!(page.len() <= compozy_blobs::objects::PAGE_NAMES, "{name}: {} at once", page.len());
            pages += usize::from(!page.is_empty());
            found.extend(page);
            true
        });
        list.expect("it lists");
        found.sort();
        assert_eq!(found, expected, "{name}");
        assert!(pages > 1, "{name}: all in one page");
        let mut calls = 0;
        let list = store.list(&mut |_| {
            calls += 1;
            false
        });
        list.expect("it lists");
        assert_eq!(calls, 1, "{name}");
    }
}

#[test]
fn many_at_once_put_in_the_same_and_read_it() {
    for subject in all() {
        let (name, store) = (subject.name, &subject.store);
        let value = noise(300_000);
        let digest = digest(&value);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        store.put(&digest, &value).expect("put");
                        let found = store.get(&digest, value.len() as u64).expect("never half a value");
                        assert!(found.as_ref() == Some(&value), "{name}");
                    }
                });
            }
        });
        assert_eq!(listed(&**store), [digest], "{name}");
    }
}

#[test]
fn where_nothing_can_be_written_is_unavailable() {
    let folder = tempfile::tempdir().expect("a folder");
    // In the place of the folder of all values.
    std::fs::write(folder.path().join("blobs"), b"no folder").expect("written");
    let store = ObjectBlobs::folder(folder.path().join("blobs"));
    let error = store.put(&digest(b"x"), b"x").expect_err("no place");
    assert!(matches!(error, BlobStoreError::Unavailable { .. }) && error.retryable(), "{error:?}");
}

#[test]
fn a_folder_is_read_by_either_store_of_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new/blobs");
    let (files, objects) = (FileBlobs::new(&path), ObjectBlobs::folder(&path));
    assert_eq!(objects.get(&digest(b"old"), 3).expect("an answer before there is a folder"), None);
    files.put(&digest(b"old"), b"old").expect("put");
    UsedBlobs::new(objects.clone()).record("execution", &digest(b"new")).expect("recorded");
    objects.put(&digest(b"new"), b"new").expect("put");
    let mut all = [digest(b"old"), digest(b"new")];
    all.sort();
    for store in [&files as &dyn BlobStore, &objects] {
        for value in [b"old", b"new"] {
            assert_eq!(store.get(&digest(value), 3).expect("read").as_deref(), Some(&value[..]));
        }
        assert_eq!(listed(store), all, "what is no value is not listed");
    }
}
