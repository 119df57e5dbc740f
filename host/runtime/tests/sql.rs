//! The native side of `compozy:host/sql`: what SQL may do, how much, how long, and what becomes of a transaction.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_runtime::bindings::compozy::host::sql::{Cell, Parameters, Rows, SqlError};
use compozy_runtime::bindings::compozy::types::buffers::Span;
use compozy_runtime::limits::{Limit, Limits};
use compozy_runtime::sql::{SqlDatabase, SqlFailure, SqlSession, Watch};

/// A statement that never ends.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

struct Fixture {
    database: Arc<SqlDatabase>,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new(limits: &[(Limit, u64)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits::effective(&limits.iter().copied().collect(), &BTreeMap::new());
        let database = SqlDatabase::new(&folder.path().join("plugins/test"), limits).unwrap();
        Self { database, folder }
    }

    fn watched(&self) -> (SqlSession, Arc<Watch>) {
        let watch = Watch::new(self.database.limits().get(Limit::SqlMemoryBytes));
        (SqlSession::open(&self.database, Arc::clone(&watch), false).unwrap(), watch)
    }

    fn session(&self) -> SqlSession {
        self.watched().0
    }
}

fn none() -> Parameters {
    Parameters { cells: Vec::new(), bytes: Vec::new() }
}

async fn query(session: &mut SqlSession, sql: &str) -> Result<Rows, SqlFailure> {
    let statement = session.prepare(sql)?;
    let rows = session.query(statement, &none()).await;
    session.close(statement);
    rows
}

async fn execute(session: &mut SqlSession, sql: &str) -> Result<u64, SqlFailure> {
    let statement = session.prepare(sql)?;
    let changed = session.execute(statement, &none()).await;
    session.close(statement);
    changed
}

async fn integer(session: &mut SqlSession, sql: &str) -> i64 {
    match query(session, sql).await.unwrap().cells[0] {
        Cell::Integer(number) => number,
        other => panic!("{sql}: {other:?}"),
    }
}

fn refusal(failure: SqlFailure) -> String {
    match failure {
        SqlFailure::Guest(SqlError::Invalid(why)) => why,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

#[tokio::test]
async fn what_reaches_out_of_the_database_is_refused_and_leaves_no_file() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    let other = fixture.folder.path().join("other.db");
    let other = other.display();
    for (sql, words) in [
        (format!("ATTACH '{other}' AS other"), "ATTACH"),
        ("DETACH main".to_owned(), "ATTACH"),
        (format!("VACUUM INTO '{other}'"), "ATTACH"),
        ("VACUUM".to_owned(), "ATTACH"),
        ("PRAGMA journal_mode = DELETE".to_owned(), "PRAGMA `journal_mode`"),
        ("PRAGMA writable_schema = ON".to_owned(), "PRAGMA `writable_schema`"),
        ("PRAGMA max_page_count = 1000000".to_owned(), "PRAGMA `max_page_count`"),
        ("PRAGMA temp_store_directory = '/'".to_owned(), "PRAGMA `temp_store_directory`"),
        ("PRAGMA database_list".to_owned(), "PRAGMA `database_list`"),
        ("SELECT load_extension('/lib/x.so')".to_owned(), "load_extension"),
        ("SELECT fts3_tokenizer('simple')".to_owned(), "fts3_tokenizer"),
        ("SELECT readfile('/etc/passwd')".to_owned(), "readfile"),
        (format!("SELECT writefile('{other}', 'x')"), "writefile"),
        ("SELECT instr(zeroblob(10000000), zeroblob(5000000) || x'01')".to_owned(), "`instr`"),
        ("CREATE VIRTUAL TABLE v USING fts5(a)".to_owned(), "virtual tables"),
        ("CREATE TEMP TABLE t (a)".to_owned(), "temporary"),
        ("BEGIN".to_owned(), "`begin`"),
        ("BEGIN IMMEDIATE".to_owned(), "`begin`"),
        ("COMMIT".to_owned(), "`begin`"),
        ("SAVEPOINT s".to_owned(), "`begin`"),
        ("UPDATE sqlite_schema SET sql = ''".to_owned(), "sqlite_master"),
        ("SELECT 1; SELECT 2".to_owned(), "more than one statement"),
        ("-- nothing".to_owned(), "no statement"),
        ("SELEKT 1".to_owned(), "syntax error"),
    ] {
        let prepared = match session.prepare(&sql) {
            Ok(statement) => session.execute(statement, &none()).await.map(drop),
            Err(failure) => Err(failure),
        };
        let why = refusal(prepared.expect_err(&sql));
        assert!(why.contains(words), "{sql}: {why}");
        // The same inside of a script.
        if !sql.starts_with("SELECT 1;") && !sql.starts_with("--") {
            refusal(session.run_script(&format!("SELECT 1; {sql}")).await.expect_err(&sql));
        }
    }
    // The table-valued form of a pragma asks for the pragma too.
    refusal(query(&mut session, "SELECT * FROM pragma_database_list").await.unwrap_err());
    let files: Vec<_> =
        std::fs::read_dir(fixture.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["plugins"]);
}

#[tokio::test]
async fn pragmas_that_only_read_are_offered() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    session.run_script("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); PRAGMA user_version = 7").await.unwrap();
    assert_eq!(integer(&mut session, "PRAGMA user_version").await, 7);
    assert_eq!(query(&mut session, "PRAGMA table_info(t)").await.unwrap().cells.len(), 12);
}

#[tokio::test]
async fn an_endless_statement_ends_at_the_deadline_with_the_name_of_the_limit() {
    let fixture = Fixture::new(&[(Limit::WallMs, 50)]);
    let (mut session, watch) = fixture.watched();
    session.run_script("CREATE TABLE t (a)").await.unwrap();
    session.begin().await.unwrap();
    execute(&mut session, "INSERT INTO t VALUES (1)").await.unwrap();
    watch.begin_call(Some(Instant::now() + Duration::from_millis(50)));
    let begun = Instant::now();
    let failure = query(&mut session, ENDLESS).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    let SqlFailure::Limit(hit) = failure else { panic!("{failure:?}") };
    assert_eq!((hit.limit, hit.allowed), (Limit::WallMs, 50));
    assert!(hit.used >= 50);
    // The rollback at the call's end is not stopped by the deadline that has passed.
    session.end_call();
    watch.begin_call(None);
    assert_eq!(integer(&mut session, "SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_statement_that_collects_without_end_stops_at_its_memory() {
    let fixture = Fixture::new(&[(Limit::SqlMemoryBytes, 32 * 1024 * 1024)]);
    let mut session = fixture.session();
    let hoard = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT randomblob(10000) AS b FROM n ORDER BY b LIMIT 1000000000";
    let failure = query(&mut session, hoard).await.unwrap_err();
    let SqlFailure::Limit(hit) = failure else { panic!("{failure:?}") };
    assert_eq!((hit.limit, hit.allowed), (Limit::SqlMemoryBytes, 32 * 1024 * 1024));
    assert!(hit.used > hit.allowed);
}

#[tokio::test]
async fn sizes_are_limited_by_name() {
    let fixture = Fixture::new(&[
        (Limit::SqlBytes, 1024 * 1024),
        (Limit::SqlValueBytes, 100_000),
        (Limit::HostcallBytes, 50_000),
        (Limit::SqlStatements, 3),
    ]);
    let mut session = fixture.session();
    session.run_script("CREATE TABLE t (a)").await.unwrap();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT i FROM n";
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)
        INSERT INTO t SELECT randomblob(1000) FROM n";
    for (sql, limit, allowed) in [
        ("SELECT randomblob(90000)", Limit::HostcallBytes, 50_000),
        (many, Limit::HostcallBytes, 50_000),
        ("SELECT randomblob(200000)", Limit::SqlValueBytes, 100_000),
        (fill, Limit::SqlBytes, 1024 * 1024),
    ] {
        let failure = match session.prepare(sql) {
            Ok(statement) if sql == fill => session.execute(statement, &none()).await.unwrap_err(),
            Ok(statement) => session.query(statement, &none()).await.unwrap_err(),
            Err(failure) => failure,
        };
        session.close(0);
        let SqlFailure::Guest(SqlError::TooLarge(exceeded)) = failure else { panic!("{sql}: {failure:?}") };
        assert_eq!((exceeded.limit.as_str(), exceeded.allowed), (limit.name(), allowed), "{sql}");
        assert!(exceeded.used > allowed, "{sql}");
    }
    assert_eq!(integer(&mut session, "SELECT count(*) FROM t").await, 0, "a statement that fails leaves nothing");
    for number in 0..3 {
        session.prepare(&format!("SELECT {number}")).unwrap();
    }
    let SqlFailure::Guest(SqlError::TooLarge(exceeded)) = session.prepare("SELECT 3").unwrap_err() else { panic!() };
    assert_eq!((exceeded.limit.as_str(), exceeded.used, exceeded.allowed), ("sql_statements", 4, 3));
    session.close(1);
    session.prepare("SELECT 3").unwrap();
}

#[tokio::test]
async fn values_travel_flat_and_unchanged() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    let statement = session.prepare("SELECT ?1, ?2, ?3, ?4, ?5, ?6").unwrap();
    let bytes = b"x\0y\xFF\x00".to_vec();
    let span = |offset, length| Span { offset, length };
    let cells = vec![
        Cell::Null,
        Cell::Integer(i64::MIN),
        Cell::Real(0.5),
        Cell::Text(span(0, 3)),
        Cell::Blob(span(3, 2)),
        Cell::Blob(span(5, 0)),
    ];
    let rows = session.query(statement, &Parameters { cells: cells.clone(), bytes }).await.unwrap();
    assert_eq!((rows.columns, rows.bytes.as_slice()), (6, b"x\0y\xFF\x00".as_slice()));
    assert_eq!(format!("{:?}", rows.cells), format!("{cells:?}"));
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    let statement = session.prepare("SELECT ?1").unwrap();
    for (cells, bytes, words) in [
        (vec![], vec![], "1 placeholders, but 0 values"),
        (vec![Cell::Null, Cell::Null], vec![], "1 placeholders, but 2 values"),
        (vec![Cell::Blob(Span { offset: 2, length: 2 })], vec![0; 3], "past the end"),
        (vec![Cell::Blob(Span { offset: u32::MAX, length: u32::MAX })], vec![0; 3], "past the end"),
        (vec![Cell::Text(Span { offset: 0, length: 1 })], vec![0xFF], "UTF-8"),
    ] {
        let why = refusal(session.query(statement, &Parameters { cells, bytes }).await.unwrap_err());
        assert!(why.contains(words), "{why}");
    }
    let why = refusal(session.query(99, &none()).await.unwrap_err());
    assert!(why.contains("closed"), "{why}");
    let why = refusal(query(&mut session, "CREATE TABLE t (a)").await.unwrap_err());
    assert!(why.contains("use `execute`"), "{why}");
    let why = refusal(execute(&mut session, "SELECT 1").await.unwrap_err());
    assert!(why.contains("use `query`"), "{why}");
    let why = refusal(query(&mut session, "SELECT CAST(x'ff' AS TEXT)").await.unwrap_err());
    assert!(why.contains("not UTF-8"), "{why}");
}

#[tokio::test]
async fn a_broken_constraint_is_told_as_one() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    session.run_script("CREATE TABLE t (a INTEGER PRIMARY KEY, b NOT NULL)").await.unwrap();
    assert_eq!(execute(&mut session, "INSERT INTO t VALUES (1, 1), (2, 2)").await.unwrap(), 2);
    assert_eq!(execute(&mut session, "CREATE TABLE other (a)").await.unwrap(), 0, "a schema change changes no rows");
    for sql in ["INSERT INTO t VALUES (1, 1)", "INSERT INTO t VALUES (3, NULL)"] {
        let failure = execute(&mut session, sql).await.unwrap_err();
        assert!(matches!(failure, SqlFailure::Guest(SqlError::Constraint(_))), "{failure:?}");
    }
}

#[tokio::test]
async fn a_transaction_that_is_open_at_the_end_of_a_call_is_rolled_back() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    session.run_script("CREATE TABLE t (a)").await.unwrap();
    for (ending, rows) in [("commit", 1), ("rollback", 1), ("end_call", 1), ("drop", 1)] {
        session.begin().await.unwrap();
        refusal(session.begin().await.unwrap_err());
        execute(&mut session, "INSERT INTO t VALUES (1)").await.unwrap();
        match ending {
            "commit" => session.commit().unwrap(),
            "rollback" => session.rollback().unwrap(),
            "end_call" => session.end_call(),
            _ => session = fixture.session(),
        }
        assert_eq!(integer(&mut session, "SELECT count(*) FROM t").await, rows, "{ending}");
        refusal(session.commit().unwrap_err());
    }
}

#[tokio::test]
async fn writers_queue_and_a_wait_that_is_too_long_is_busy() {
    let fixture = Fixture::new(&[(Limit::SqlBusyMs, 50)]);
    let (mut first, mut second) = (fixture.session(), fixture.session());
    first.run_script("CREATE TABLE t (a)").await.unwrap();
    first.begin().await.unwrap();
    execute(&mut first, "INSERT INTO t VALUES (1)").await.unwrap();
    for failure in [
        second.begin().await.unwrap_err(),
        execute(&mut second, "INSERT INTO t VALUES (2)").await.unwrap_err(),
        second.run_script("CREATE TABLE u (a)").await.unwrap_err(),
    ] {
        let SqlFailure::Guest(SqlError::Busy(why)) = failure else { panic!("{failure:?}") };
        assert!(why.contains("sql_busy_ms"), "{why}");
    }
    assert_eq!(integer(&mut second, "SELECT count(*) FROM t").await, 0, "a reader does not wait for the writer");
    first.commit().unwrap();
    execute(&mut second, "INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(integer(&mut first, "SELECT count(*) FROM t").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_nothing() {
    let fixture = Fixture::new(&[]);
    fixture.session().run_script("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (0)").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut session = fixture.session();
        tasks.spawn(async move {
            for _ in 0..50 {
                session.begin().await.unwrap();
                let n = integer(&mut session, "SELECT n FROM t").await;
                execute(&mut session, &format!("UPDATE t SET n = {}", n + 1)).await.unwrap();
                session.commit().unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(integer(&mut fixture.session(), "SELECT n FROM t").await, 400);
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let fixture = Fixture::new(&[]);
    let mut session = fixture.session();
    session.run_script("CREATE TABLE t (a); INSERT INTO t VALUES (7)").await.unwrap();
    drop(session);
    assert_eq!(integer(&mut fixture.session(), "SELECT a FROM t").await, 7);
    assert_eq!(fixture.database.path().file_name().unwrap(), "store.db");
}
