//! Every limit of the engine, with its unit.

use std::time::Duration;

/// One input, output, signal or set of arguments, as JSON, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What of those goes to the journal, as JSON, in bytes. What is larger goes to the blob store, and a reference to the
/// journal.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// What a value may refer to when it is put together for a task or an answer, in bytes.
pub const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Values of the blob store kept in memory.
pub const CACHED_BLOBS_MAX: usize = 1024;
/// What those hold together, in bytes of their JSON.
pub const CACHED_BLOB_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Blobs that one step of the clean-up looks at.
pub const SWEEP_BLOBS_MAX: usize = 256;
/// One definition (a plan as JSON), in bytes.
pub const DEFINITION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A failure as it is recorded, in bytes: a longer message is cut, larger details are left out.
pub const FAILURE_BYTES_MAX: usize = 16 * 1024;
/// The reason of a request to end a run, in bytes.
pub const REASON_BYTES_MAX: usize = 4096;
/// How long what runs has to end by itself after a request to cancel, when that says nothing, in milliseconds.
pub const CANCEL_GRACE_MS_DEFAULT: u64 = 10_000;
/// The longest grace of a request to cancel, in milliseconds: one hour.
pub const CANCEL_GRACE_MS_MAX: u64 = 60 * 60 * 1000;
/// Runs that started each other, one inside the other.
pub const CHILD_DEPTH_MAX: u32 = 20;
/// Runs that one commit removes.
pub const PRUNE_RUNS_MAX: usize = 64;
/// Events of the runs that one commit removes, together; a single run may have more.
pub const PRUNE_EVENTS_MAX: u64 = 4096;
/// How often runs are looked for that were kept for as long as the operator wants.
pub const RETENTION_EVERY: Duration = Duration::from_mins(1);
/// The rest between two commits that remove such runs, so that other work goes first.
pub const RETENTION_PAUSE: Duration = Duration::from_millis(20);
/// An idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Starts and requests that wait for the writer.
pub const SUBMIT_OPS_MAX: usize = 1024;
/// What those hold together, in bytes.
pub const SUBMIT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// When to come back after the queue was full.
pub const SUBMIT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Operations of one commit.
pub const BATCH_OPS_MAX: usize = 512;
/// What the operations of one commit hold together, in bytes (one more operation may go over it).
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Events of one run.
pub const RUN_EVENTS_MAX: u64 = 50_000;
/// Events of one run, together, as JSON, in bytes.
pub const RUN_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// Events after which a run is due for a snapshot.
pub const SNAPSHOT_EVENTS: u64 = 64;
/// Bytes of events after which a run is due for a snapshot.
pub const SNAPSHOT_BYTES: u64 = 256 * 1024;
/// Events after which a snapshot is taken, however large it is.
pub const SNAPSHOT_EVENTS_MAX: u64 = 4096;

/// Runs kept in memory between their events.
pub const CACHED_RUNS_MAX: usize = 10_000;
/// What those hold together, in bytes of their journals.
pub const CACHED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Definitions kept in memory.
pub const CACHED_DEFINITIONS_MAX: usize = 128;

/// Attempts that run at once, when the operator says nothing.
pub const CONCURRENCY_DEFAULT: usize = 64;
/// Attempts that may run at once.
pub const CONCURRENCY_MAX: usize = 1024;

/// Lanes of waiting tasks that are kept in memory; others wait in the journal until half of those are done.
pub const LANES_MAX: usize = 20_000;
/// Lanes that one commit reads from the journal.
pub const LANES_READ_MAX: usize = 512;
/// Every how many starts the priority that has waited longest comes first.
pub const PRIORITY_AGING: u64 = 16;

/// Notices that a slow watcher may be behind before it misses some.
pub const WATCH_NOTICES_MAX: usize = 4096;
/// The same for somebody who follows one execution.
pub const FOLLOW_NOTICES_MAX: usize = 256;
/// Rows of one answer of a list.
pub const LIST_MAX: usize = 1000;

/// The size at which the write-ahead log is copied into the journal file, in pages of 4 KiB.
pub const WAL_PAGES: u32 = 4_000;
/// The size at which the writer does that itself, because nobody else did, in pages of 4 KiB.
pub const WAL_PAGES_MAX: u32 = 8 * WAL_PAGES;
/// Pages of the journal that the writer keeps in memory, in KiB. More is slower: at a commit that moved pages about, SQLite
/// looks through all of them.
pub const WRITER_CACHE_KIB: u32 = 4 * 1024;
/// What the write-ahead log is cut to after it was larger, in bytes.
pub const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

const _: () = assert!(INLINE_BYTES_MAX < BATCH_BYTES_MAX && INLINE_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX as u64 <= READ_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < SUBMIT_BYTES_MAX);
const _: () = assert!(BATCH_OPS_MAX <= SUBMIT_OPS_MAX);
const _: () = assert!(FAILURE_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(SNAPSHOT_EVENTS < SNAPSHOT_EVENTS_MAX && SNAPSHOT_EVENTS_MAX < RUN_EVENTS_MAX);
const _: () = assert!(CONCURRENCY_DEFAULT <= CONCURRENCY_MAX);
