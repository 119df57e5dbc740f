//! Limits of the engine on Temporal, with their units. Those of a run are [`compozy_engine::limits`].

use std::time::Duration;

/// A message (a definition, a state) goes to the blob store when it is larger than this when compressed, in bytes.
pub(crate) const MESSAGE_INLINE_BYTES_MAX: usize = 256 * 1024;
/// A message when it is unpacked, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Events of one answer of a worker, together, in bytes of their JSON.
pub(crate) const JOURNAL_PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events of one answer of a worker.
pub(crate) const JOURNAL_PAGE_MAX: usize = 1_000;
/// How often an attempt that was asked to end looks whether it still may take its time.
pub(crate) const GRACE_POLL: Duration = Duration::from_millis(500);
/// The server gives up an attempt this long after its worker should have.
pub(crate) const BACKSTOP: Duration = Duration::from_secs(10);
/// The wait before an attempt that was lost with its worker is begun again.
pub(crate) const LOST_RETRY: Duration = Duration::from_millis(100);
/// One try of a local activity.
pub(crate) const LOCAL_TRY: Duration = Duration::from_secs(30);
/// One try to deliver a signal to all its receivers.
pub(crate) const DELIVER_TRY: Duration = Duration::from_mins(2);
/// Events of Temporal's history after which a run goes on in a new one, when nothing is under way.
pub(crate) const HISTORY_EVENTS_DUE: u32 = 4_000;
/// Events of Temporal's history after which a run begins nothing more until it can go on in a new one.
pub(crate) const HISTORY_EVENTS_MUST: u32 = 25_000;
/// Arguments and answers in one history, together, after which a run begins nothing more until it can go on in a new one, in
/// bytes. The server ends a run whose history has 50 MiB, and the answers of all that is under way must still find room.
pub(crate) const HISTORY_BYTES_MUST: u64 = 16 * 1024 * 1024;
/// Activities, children and messages of one run that are under way at once. The server takes 2,000 of each kind, but each may
/// answer with [`compozy_engine::limits::INLINE_BYTES_MAX`].
pub(crate) const UNDER_WAY_MAX: usize = 400;
/// What they were given, together, in bytes: the server takes 4 MiB in one message.
pub(crate) const UNDER_WAY_BYTES_MAX: usize = 2 * 1024 * 1024;
const _: () = assert!(
    HISTORY_BYTES_MUST as usize + UNDER_WAY_BYTES_MAX + UNDER_WAY_MAX * compozy_engine::limits::INLINE_BYTES_MAX
        < 48 * 1024 * 1024
);
/// Tasks that the details of a run name in Temporal's own pages.
pub(crate) const TASKS_SHOWN_MAX: usize = 20;
/// Runs of one step of a search.
pub(crate) const SEARCH_ROWS_MAX: usize = 4_000;
/// How often somebody who follows a run looks whether it has gone on.
pub(crate) const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// The first sweep of large values comes this long after the start, which is left alone.
pub(crate) const SWEEP_FIRST_AFTER: Duration = Duration::from_mins(5);
/// The pause between two sweeps.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// A sweep asks the server about executions for this long at most; those it has not asked about wait for another one.
pub(crate) const SWEEP_ASKS_MAX: Duration = Duration::from_mins(10);
/// At a stop, a sweep has this long to end what it is doing.
pub(crate) const SWEEP_LAST_TIME: Duration = Duration::from_secs(5);
/// How often the server's health is looked at.
pub(crate) const HEALTH_EVERY: Duration = Duration::from_secs(2);
/// Definitions kept in memory for callers.
pub(crate) const PLANS_MAX: usize = 128;
/// A worker that did not ask for work for this long is gone; one that waits asks once a minute.
pub(crate) const POLLER_GONE: Duration = Duration::from_secs(90);
