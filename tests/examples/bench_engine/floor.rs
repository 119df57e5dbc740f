//! The least that such work costs on this disk: the rows of a step by plain SQL, as many steps per commit.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::Connection;

use crate::report::percentile_ms;

/// What plain SQL came to.
pub(crate) struct Came {
    pub(crate) steps_per_s: f64,
    pub(crate) commit_p50_ms: f64,
}

/// Overwrites 4 KiB and calls `fdatasync`, for half a second.
pub(crate) fn fsyncs_per_second(folder: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < Duration::from_millis(500) {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// The tables that a run touches, with the indexes of the journal.
const TABLES: &str = "
CREATE TABLE run(id INTEGER PRIMARY KEY, execution TEXT NOT NULL UNIQUE, status TEXT NOT NULL, started_at_ms INTEGER NOT NULL,
                 workflow TEXT NOT NULL, ended_at_ms INTEGER) STRICT;
CREATE INDEX run_open ON run(id) WHERE ended_at_ms IS NULL;
CREATE INDEX run_status ON run(status, id);
CREATE INDEX run_workflow ON run(workflow, id);
CREATE INDEX run_ended ON run(ended_at_ms, id) WHERE ended_at_ms IS NOT NULL;
CREATE TABLE snapshot(run INTEGER PRIMARY KEY, state TEXT NOT NULL) STRICT;
CREATE TABLE journal(run INTEGER NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
                     body TEXT NOT NULL, PRIMARY KEY (run, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE task(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, ran TEXT,
                  call TEXT NOT NULL, UNIQUE (run, key)) STRICT;
CREATE INDEX task_running ON task(id) WHERE state = 'running';
";

/// A journal that plain SQL fills.
pub(crate) struct Floor {
    conn: Connection,
    step: u64,
}

impl Floor {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let conn = Connection::open(folder.join("floor.db"))?;
        for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL"), ("wal_autocheckpoint", "16000")] {
            conn.pragma_update(None, name, value)?;
        }
        conn.execute_batch(TABLES)?;
        Ok(Self { conn, step: 0 })
    }

    /// Writes the rows of steps for a while, so many per commit; every third step begins a run and ends one.
    pub(crate) fn measure(&mut self, group: f64, duration: Duration) -> Result<Came> {
        let (begun, first, mut commits, mut owed) = (Instant::now(), self.step, Vec::new(), 0.0);
        while begun.elapsed() < duration {
            let started = Instant::now();
            self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            owed += group;
            while owed >= 1.0 {
                owed -= 1.0;
                self.step()?;
            }
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            commits.push(started.elapsed());
        }
        let steps_per_s = (self.step - first) as f64 / begun.elapsed().as_secs_f64();
        Ok(Came { steps_per_s, commit_p50_ms: percentile_ms(&mut commits, 0.5) })
    }

    fn step(&mut self) -> Result<()> {
        let (conn, at, run) = (&self.conn, self.step % 3, i64::try_from(self.step / 3)? + 1);
        if at == 0 {
            conn.prepare_cached("INSERT INTO run VALUES (?1, ?2, 'RUNNING', 1, 'steps3', NULL)")?
                .execute((run, format!("01998a7e-0000-7000-8000-{run:012}")))?;
            self.journal(run, 1)?;
        }
        let key = ["a", "b", "c"][usize::try_from(at)?];
        conn.prepare_cached("INSERT INTO task VALUES (NULL, ?1, ?2, 'running', NULL, ?3)")?.execute((
            run,
            key,
            text(420),
        ))?;
        let task = conn.last_insert_rowid();
        conn.prepare_cached("UPDATE task SET state = 'done', ran = ?2 WHERE id = ?1")?.execute((task, text(150)))?;
        self.journal(run, 2 + at)?;
        if at == 2 {
            conn.prepare_cached("UPDATE run SET status = 'SUCCESS', ended_at_ms = 2 WHERE id = ?1")?.execute([run])?;
            conn.prepare_cached("INSERT INTO snapshot VALUES (?1, ?2)")?.execute((run, text(1_150)))?;
        }
        self.step += 1;
        Ok(())
    }

    fn journal(&self, run: i64, seq: u64) -> Result<()> {
        let mut insert = self.conn.prepare_cached("INSERT INTO journal VALUES (?1, ?2, 1, 'task_completed', ?3)")?;
        insert.execute((run, seq, text(110)))?;
        Ok(())
    }
}

/// As long as what the measured workflow has there, in bytes.
fn text(bytes: usize) -> &'static str {
    const TEXT: &str = match std::str::from_utf8(&[b'x'; 1_150]) {
        Ok(text) => text,
        Err(_) => unreachable!(),
    };
    &TEXT[..bytes]
}
