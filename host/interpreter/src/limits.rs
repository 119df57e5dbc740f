//! Every limit of a run, with its unit. They make [`crate::advance`] total: no workflow runs for ever without waiting.

/// Task states of one run: every visit of a task and every item of a collection counts.
pub const RUN_TASKS_MAX: usize = 50_000;
/// Tasks that one event may bring the run to. A loop that never waits for anything ends here.
pub const EVENT_TASKS_MAX: usize = 20_000;
/// Values that one run keeps (arguments, items, outputs), in bytes, about as JSON.
pub const RUN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one template, condition or schema may read of values that are kept apart, in bytes of their JSON.
pub const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Nesting of a value that a run keeps. The state must be readable as JSON, whose readers stop at 128 levels.
pub const VALUE_DEPTH_MAX: usize = 64;
/// Signals of one run, taken or not.
pub const RUN_SIGNALS_MAX: u64 = 10_000;
/// The id of a signal, in bytes.
pub const SIGNAL_ID_BYTES_MAX: usize = 512;
/// Executions that one signal task sends to.
pub const SIGNAL_RECEIVERS_MAX: usize = 1_000;
/// Characters of a value that a message shows.
pub const VALUE_SHOWN_CHARS_MAX: usize = 200;
/// Names that a message lists; further ones are counted.
pub const NAMES_SHOWN_MAX: usize = 20;
/// Containers around a task of a stored state. More than a plan can nest, so only a damaged state comes here.
pub const ANCESTORS_MAX: usize = 2 * compozy_plan::limits::TASK_DEPTH_MAX;

const _: () = assert!(VALUE_DEPTH_MAX + 16 < 128);
const _: () = assert!(EVENT_TASKS_MAX <= RUN_TASKS_MAX);
// A collection whose children need no executor is worked off within one event.
const _: () = assert!(EVENT_TASKS_MAX > compozy_plan::limits::COLLECTION_ITEMS_MAX);
