//! Checkpoints: the write-ahead log is copied into the journal file beside the writer.
//!
//! The writer would have to stop for that, and everybody behind it. So a thread with a connection of its own copies
//! what is there, and the writer then copies the little that came meanwhile; after that the log begins again at its start.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::file::JournalFile;
use crate::{EngineError, limits};

/// Neither waits for readers nor keeps anybody from reading or writing.
const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// There is nothing to do.
    Idle,
    /// The log is to be copied.
    Wanted,
    /// It was; what came since is for the writer.
    Copied,
    /// The thread is to end.
    End,
}

struct Inner {
    /// Of the write-ahead log, after the last commit.
    pages: AtomicU32,
    order: Mutex<Order>,
    changed: Condvar,
}

impl Inner {
    fn order(&self) -> MutexGuard<'_, Order> {
        // Nothing panics while it holds the lock.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, order: Order) {
        *self.order() = order;
        self.changed.notify_one();
    }
}

/// The thread that copies; it ends when this is dropped.
pub(super) struct Checkpoints {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Takes the checkpoints over from the writer's connection.
    pub(super) fn begin(file: &JournalFile, writer: &mut Connection) -> Result<Self, EngineError> {
        let inner =
            Arc::new(Inner { pages: AtomicU32::new(0), order: Mutex::new(Order::Idle), changed: Condvar::new() });
        let counted = Arc::clone(&inner);
        let count = move |_: &mut _, pages: std::ffi::c_int| {
            counted.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(count)).map_err(|e| file.error("configure the journal", &e))?;
        let (theirs, file) = (Arc::clone(&inner), file.clone());
        let thread =
            std::thread::Builder::new().name("journal-checkpoint".to_owned()).spawn(move || work(&theirs, &file));
        let thread = thread.map_err(|e| EngineError::Internal(format!("the checkpoints cannot begin: {e}")))?;
        Ok(Self { inner, thread: Some(thread) })
    }

    /// After a commit of the writer.
    pub(super) fn tend(&self, writer: &Connection) {
        let pages = self.inner.pages.load(Ordering::Relaxed);
        if pages < limits::WAL_PAGES {
            return;
        }
        let order = *self.inner.order();
        match order {
            Order::Copied => {
                copy(writer);
                self.inner.give(Order::Idle);
            }
            // The thread does not keep up, or cannot.
            _ if pages >= limits::WAL_PAGES_MAX => copy(writer),
            Order::Idle => self.inner.give(Order::Wanted),
            Order::Wanted | Order::End => {}
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.inner.give(Order::End);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the checkpoints panicked");
        }
    }
}

fn work(inner: &Inner, file: &JournalFile) {
    let mut conn = None;
    loop {
        let mut order = inner.order();
        while !matches!(*order, Order::Wanted | Order::End) {
            order = inner.changed.wait(order).unwrap_or_else(PoisonError::into_inner);
        }
        if *order == Order::End {
            return;
        }
        drop(order);
        // Opened late: most hosts never come here.
        if conn.is_none() {
            conn = file.open_reader().inspect_err(|error| tracing::warn!(%error, "checkpoints are the writer's")).ok();
        }
        if let Some(conn) = &conn {
            copy(conn);
        }
        let mut order = inner.order();
        if *order == Order::Wanted {
            *order = Order::Copied;
        }
    }
}

/// A checkpoint that fails loses nothing: the log keeps everything, and the next one copies it.
fn copy(conn: &Connection) {
    if let Err(error) = conn.query_row(COPY, [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log could not be copied into the journal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_begins_again_while_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::new(dir.path());
        let mut writer = file.open_writer().unwrap();
        let checkpoints = Checkpoints::begin(&file, &mut writer).unwrap();
        let page = "x".repeat(4096);
        let (mut most, mut restarts, mut before) = (0, 0, 0);
        for row in 0..u64::from(3 * limits::WAL_PAGES) {
            writer.execute("INSERT INTO meta(key, value) VALUES (?1, ?2)", (row.to_string(), &page)).unwrap();
            checkpoints.tend(&writer);
            let pages = checkpoints.inner.pages.load(Ordering::Relaxed);
            most = most.max(pages);
            restarts += u32::from(pages < before);
            before = pages;
        }
        assert!(restarts > 0, "{most} pages");
        assert!(most < limits::WAL_PAGES_MAX + 16, "{most} pages");
        drop(checkpoints);
        let rows: u64 = writer.query_row("SELECT COUNT(*) FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, u64::from(3 * limits::WAL_PAGES));
    }
}
