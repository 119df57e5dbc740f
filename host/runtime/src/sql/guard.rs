//! What guest SQL may do and how long it may run.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::limits::Limit;

/// Pragmas that read, or that write a number which only the plugin itself gives a meaning.
const PRAGMAS: &[&str] = &[
    "application_id",
    "data_version",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "page_count",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Functions that reach outside of the database, or that can run for hours inside of one step, where no deadline stops them,
/// because they compare each place of one long value with all of another. A plugin does such work in its own code.
const FUNCTIONS: &[&str] = &[
    "edit",
    "fts3_tokenizer",
    "instr",
    "json_patch",
    "jsonb_patch",
    "load_extension",
    "ltrim",
    "readfile",
    "replace",
    "rtrim",
    "trim",
    "writefile",
];

/// The authorizer's memory: whether the host itself is preparing, and what it refused last.
#[derive(Debug, Default)]
pub(super) struct Authorizer {
    host: AtomicBool,
    refused: Mutex<Option<String>>,
}

impl Authorizer {
    /// Marks the statements that follow as the host's own (`BEGIN`, `COMMIT`, `ROLLBACK`) or as a guest's.
    pub(super) fn set_host(&self, host: bool) {
        self.host.store(host, Ordering::Relaxed);
    }

    /// Takes the sentence that explains the last refusal.
    pub(super) fn take_refusal(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Decides about one action of a statement that is being prepared.
    pub(super) fn decide(&self, context: AuthContext<'_>) -> Authorization {
        let reason = match context.action {
            AuthAction::Transaction { .. } if self.host.load(Ordering::Relaxed) => return Authorization::Allow,
            AuthAction::Select
            | AuthAction::Read { .. }
            | AuthAction::Insert { .. }
            | AuthAction::Update { .. }
            | AuthAction::Delete { .. }
            | AuthAction::Recursive
            | AuthAction::CreateTable { .. }
            | AuthAction::CreateIndex { .. }
            | AuthAction::CreateView { .. }
            | AuthAction::CreateTrigger { .. }
            | AuthAction::DropTable { .. }
            | AuthAction::DropIndex { .. }
            | AuthAction::DropView { .. }
            | AuthAction::DropTrigger { .. }
            | AuthAction::AlterTable { .. }
            | AuthAction::Reindex { .. }
            | AuthAction::Analyze { .. } => return Authorization::Allow,
            AuthAction::Function { function_name } => {
                if !contains(FUNCTIONS, function_name) {
                    return Authorization::Allow;
                }
                format!("the function `{function_name}` is not offered")
            }
            AuthAction::Pragma { pragma_name, .. } => {
                if contains(PRAGMAS, pragma_name) {
                    return Authorization::Allow;
                }
                format!("PRAGMA `{pragma_name}` is not offered; offered are: {}", PRAGMAS.join(", "))
            }
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
                "transactions are begun and ended by `begin`, `commit` and `rollback`, not by SQL".to_owned()
            }
            AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
                "ATTACH, DETACH and VACUUM are not offered; a plugin has one database file of its own".to_owned()
            }
            AuthAction::CreateVtable { .. } | AuthAction::DropVtable { .. } => {
                "virtual tables are not offered".to_owned()
            }
            _ => "temporary objects and this kind of statement are not offered".to_owned(),
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        Authorization::Deny
    }
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

// Why the progress handler interrupted a statement.
const NOTHING: u8 = 0;
const WALL_TIME: u8 = 1;
const MEMORY: u8 = 2;

/// The deadline of the call that an instance serves now.
///
/// SQLite asks it every few hundred steps of a statement; the runtime arms it at the begin of each exported call.
#[derive(Debug)]
pub struct Watch {
    /// Times are counted from here, so that they fit an atomic.
    origin: Instant,
    /// When the call must end, in microseconds after `origin`; `u64::MAX` for never.
    deadline: AtomicU64,
    /// Bytes that SQLite had in use when the statement began.
    memory_base: AtomicU64,
    /// Bytes that it may have in use more before the statement is stopped.
    memory_allowed: u64,
    memory_used: AtomicU64,
    interrupted: AtomicU8,
}

impl Watch {
    /// A watch without a deadline.
    pub fn new(memory_allowed: u64) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            deadline: AtomicU64::new(u64::MAX),
            memory_base: AtomicU64::new(0),
            memory_allowed,
            memory_used: AtomicU64::new(0),
            interrupted: AtomicU8::new(NOTHING),
        })
    }

    /// A call begins; its statements end at this moment. `None` lets them run.
    pub fn begin_call(&self, deadline: Option<Instant>) {
        let deadline = deadline.map_or(u64::MAX, |at| micros(at.saturating_duration_since(self.origin)));
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Waiting does not count as the call's own time.
    pub(super) fn waited(&self, time: Duration) {
        // `u64::MAX` stays what it is.
        let deadline = self.deadline.load(Ordering::Relaxed).saturating_add(micros(time));
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Takes the deadline off for a moment; hand the answer to `resume`.
    pub(super) fn suspend(&self) -> u64 {
        self.deadline.swap(u64::MAX, Ordering::Relaxed)
    }

    /// Puts the deadline back that `suspend` took off.
    pub(super) fn resume(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Called before a statement runs.
    pub(super) fn begin_statement(&self) {
        self.interrupted.store(NOTHING, Ordering::Relaxed);
        self.memory_base.store(memory_used(), Ordering::Relaxed);
    }

    /// Whether the running statement must stop. Called by SQLite's progress handler.
    pub(super) fn must_stop(&self) -> bool {
        if self.now() >= self.deadline.load(Ordering::Relaxed) {
            self.interrupted.store(WALL_TIME, Ordering::Relaxed);
            return true;
        }
        let memory = self.memory_in_use();
        if memory > self.memory_allowed {
            self.memory_used.store(memory, Ordering::Relaxed);
            self.interrupted.store(MEMORY, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// The limit for which the last statement was interrupted, if it was.
    pub(super) fn interrupted(&self) -> Option<Limit> {
        match self.interrupted.load(Ordering::Relaxed) {
            NOTHING => None,
            WALL_TIME => Some(Limit::WallMs),
            _ => Some(Limit::SqlMemoryBytes),
        }
    }

    /// Milliseconds since the deadline.
    pub(super) fn overtime_ms(&self) -> u64 {
        self.now().saturating_sub(self.deadline.load(Ordering::Relaxed)) / 1_000
    }

    /// Bytes that SQLite took since the statement began. Counted over the whole process, because SQLite keeps no such
    /// count per connection; the page caches of the others are small and bounded, so that only a statement that
    /// sorts or collects without end comes near the limit.
    fn memory_in_use(&self) -> u64 {
        memory_used().saturating_sub(self.memory_base.load(Ordering::Relaxed))
    }

    /// Bytes that a statement had taken when it was stopped for that.
    pub(super) fn memory_used(&self) -> u64 {
        self.memory_used.load(Ordering::Relaxed)
    }

    /// Microseconds after `origin`.
    fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(unsafe_code, reason = "rusqlite has no wrapper for this counter")]
fn memory_used() -> u64 {
    // SAFETY: takes no arguments, may be called from any thread, and only reads a counter under SQLite's own mutex.
    let bytes = unsafe { rusqlite::ffi::sqlite3_memory_used() };
    u64::try_from(bytes).unwrap_or(0)
}
