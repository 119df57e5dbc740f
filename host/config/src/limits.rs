//! Every limit of configuration values, with its unit.

/// A text, address or path, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Items of a list.
pub const LIST_ITEMS_MAX: usize = 100;
/// A file that holds a secret, in bytes.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;
/// The longest time that a key takes, in milliseconds: 365 days.
pub const TIME_MS_MAX: u64 = compozy_plan::limits::DURATION_MS_MAX;
/// The longest `start_timeout`, in milliseconds: ten minutes.
pub const START_TIMEOUT_MS_MAX: u64 = 600_000;
/// The longest `drain`, in milliseconds: an hour.
pub const DRAIN_MS_MAX: u64 = 3_600_000;
/// The longest `engine.temporal.rpc_timeout`, in milliseconds: five minutes.
pub const RPC_TIMEOUT_MS_MAX: u64 = 300_000;
/// The most requests of one client that `rate_limit` can let through at once, or in its time.
pub const RATE_REQUESTS_MAX: u64 = 1_000_000;
/// The longest time that `rate_limit` counts over, in milliseconds: an hour.
pub const RATE_PER_MS_MAX: u64 = 3_600_000;
/// Attempts of one plugin at once.
pub const CONCURRENCY_MAX: u64 = compozy_plan::limits::CONCURRENCY_LIMIT_MAX as u64;
/// Characters of a plugin's, namespace's or project's name.
pub const NAME_CHARS_MAX: usize = compozy_plan::limits::ID_CHARS_MAX;
