//! Databases of other versions of the plugin.

use compozy_runtime::stores::{Attempt, Lifetime, Namespace, StoreError};

use crate::support::{Host, contents, database_file, messages, ms};

/// A folder with a database that this script makes.
fn folder(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = database_file(folder.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    rusqlite::Connection::open(file).unwrap().execute_batch(script).unwrap();
    folder
}

#[tokio::test]
async fn a_database_of_version_1_goes_on_with_all_roles() {
    let host = Host::on(folder(include_str!("version1.sql"))).await;
    let entry = host.cache().get("k").await.unwrap().unwrap();
    assert_eq!((entry.value.as_slice(), entry.version), (b"v".as_slice(), 42));
    assert!(matches!(host.cache().ttl("k").await.unwrap(), Lifetime::RemainingMs(500)));
    assert_eq!(host.config().get(Namespace::Metadata, "id").await.unwrap().unwrap(), b"v");
    let counts = host.memory().append("m", &messages(&[("c", 1)]), None, None).await.unwrap();
    assert_eq!((counts.messages, counts.tokens), (3, 31));
    let all = contents(&host.memory().read("m").await.unwrap());
    assert_eq!(all.iter().map(|(text, _)| text.as_str()).collect::<String>(), "abc");
    assert!(host.memory().is_flush_pending("m").await.unwrap());
    assert_eq!(host.events().append("s", b"e").await.unwrap(), 1);
    assert!(matches!(host.locks().acquire("l", ms(10).unwrap(), "").await.unwrap(), Attempt::Acquired(_)));
    let host = host.reopened().await;
    assert_eq!(host.events().append("s", b"e").await.unwrap(), 2);
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_alone() {
    let host = Host::on(folder("CREATE TABLE later (a); PRAGMA user_version = 1000")).await;
    let Err(StoreError::Unavailable(why)) = host.cache().get("k").await else { panic!("a later version was used") };
    assert!(why.contains("version 1000"), "{why}");
    let tables: u32 = host.database().query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}
