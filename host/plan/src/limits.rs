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
/// Children of a collection that run at once.
pub const COLLECTION_PARALLEL_MAX: u32 = 100;
/// Items of a collection.
pub const COLLECTION_ITEMS_MAX: usize = 10_000;
/// Source of one template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Steps (nodes evaluated, loop turns, bytes written / 64) of one rendering.
pub const TEMPLATE_STEPS_MAX: u64 = 100_000;
/// Output of one rendering, in bytes.
pub const TEMPLATE_OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Source of one condition, in bytes.
pub const CONDITION_BYTES_MAX: usize = 8 * 1024;
/// Cost of one condition: nodes of the expression, times the items that its comprehensions visit.
pub const CONDITION_COST_MAX: u64 = 100_000;
/// Problems listed for one file; further ones are counted.
pub const DIAGNOSTICS_MAX: usize = 100;

const _: () = assert!(TEMPLATE_BYTES_MAX <= DOCUMENT_BYTES_MAX);
const _: () = assert!(CONDITION_BYTES_MAX <= DOCUMENT_BYTES_MAX);
