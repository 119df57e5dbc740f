//! Every limit of documents, templates and conditions, with its unit.

/// A workflow or project file, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Nodes of a YAML document after its aliases are expanded.
pub const DOCUMENT_NODES_MAX: usize = 200_000;
/// Nesting of a YAML document.
pub const DOCUMENT_DEPTH_MAX: usize = 64;
/// Tasks in a workflow, all levels together.
pub const TASKS_MAX: usize = 5_000;
/// Nesting of tasks.
pub const TASK_DEPTH_MAX: usize = 20;
/// Characters of an id or a name.
pub const ID_CHARS_MAX: usize = 63;
/// The longest timeout or interval, in milliseconds: 365 days.
pub const DURATION_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;
/// Attempts of one task.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// What a `concurrency` may allow, in attempts at once.
pub const CONCURRENCY_LIMIT_MAX: u32 = 10_000;
/// The rendered key of a `concurrency`, in bytes.
pub const CONCURRENCY_KEY_BYTES_MAX: usize = 255;
/// Children of a collection that run at once.
pub const COLLECTION_PARALLEL_MAX: u32 = 100;
/// Children of a collection that run at once when it does not say how many.
pub const COLLECTION_PARALLEL_DEFAULT: u32 = 10;
/// Items of a collection.
pub const COLLECTION_ITEMS_MAX: usize = 10_000;
/// The name of a signal, in bytes.
pub const SIGNAL_NAME_BYTES_MAX: usize = 128;
/// Source of one template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Steps (nodes evaluated, loop turns, bytes written / 64) of one rendering.
pub const TEMPLATE_STEPS_MAX: u64 = 100_000;
/// Output of one rendering, in bytes.
pub const TEMPLATE_OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Nesting of blocks, and of calls, in one template.
pub const TEMPLATE_NESTING_MAX: usize = 32;
/// Nesting of a value that a template makes or copies.
pub const TEMPLATE_VALUE_DEPTH_MAX: usize = 100;
/// Source of one condition, in bytes.
pub const CONDITION_BYTES_MAX: usize = 8 * 1024;
/// Cost of one condition: nodes of the expression, times the items that its comprehensions visit.
pub const CONDITION_COST_MAX: u64 = 100_000;
/// Operators, dots, brackets and commas of one condition: no expression is nested deeper than it has of these.
pub const CONDITION_OPERATORS_MAX: usize = 300;
/// Nesting of one condition, its macros expanded.
pub const CONDITION_NESTING_MAX: usize = 100;
/// A schema, in bytes of its JSON.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;
/// Nesting of a schema.
pub const SCHEMA_DEPTH_MAX: usize = 48;
/// Problems listed when a value does not fit a schema.
pub const SCHEMA_VIOLATIONS_MAX: usize = 20;
/// Problems listed for one file; further ones are counted.
pub const DIAGNOSTICS_MAX: usize = 100;

const _: () = assert!(TEMPLATE_BYTES_MAX <= DOCUMENT_BYTES_MAX);
const _: () = assert!(CONDITION_BYTES_MAX <= DOCUMENT_BYTES_MAX);
