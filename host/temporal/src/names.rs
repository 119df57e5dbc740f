//! Names that workers and clients of one project must agree on.

use compozy_interpreter::BEHAVIOUR_VERSION;
use temporalio_common::search_attributes::SearchAttributeKey;

/// The workflow type. Runs of another behaviour of the interpreter are of another type, on another queue.
pub(crate) const WORKFLOW_TYPE: &str = "compozy.run.v2";
const _: () = assert!(BEHAVIOUR_VERSION == 2, "the workflow type names the behaviour");

/// The activity that runs an attempt of a task.
pub(crate) const TASK: &str = "compozy.task";
/// The failure of a task that did not begin, because the process that got it cannot do it now.
pub(crate) const NOT_HERE: &str = "NOT_HERE";
/// The local activity that finds the definition of a child workflow.
pub(crate) const FIND_WORKFLOW: &str = "compozy.find_workflow";
/// The local activity that says how a child ended.
pub(crate) const ENDING: &str = "compozy.ending";
/// The activity that delivers a signal.
pub(crate) const DELIVER: &str = "compozy.deliver";

/// The workflow's id.
pub(crate) const ATTRIBUTE_WORKFLOW: SearchAttributeKey<String> = SearchAttributeKey::keyword("CompozyWorkflow");
/// How the run stands, where Temporal's own status does not say it.
pub(crate) const ATTRIBUTE_STATUS: SearchAttributeKey<String> = SearchAttributeKey::keyword("CompozyStatus");
/// SHA-256 of the definition.
pub(crate) const ATTRIBUTE_DEFINITION: SearchAttributeKey<String> = SearchAttributeKey::keyword("CompozyDefinition");

/// The search attributes that a namespace must have, all of type Keyword.
pub const ATTRIBUTES: [&str; 3] = ["CompozyWorkflow", "CompozyStatus", "CompozyDefinition"];

/// The memo field with the digest of the request that an idempotency key stands for.
pub(crate) const MEMO_REQUEST: &str = "compozy_request";
/// The memo field with the plugins that the run is bound to.
pub(crate) const MEMO_PINS: &str = "compozy_pins";

/// Where the workflows of a project wait for a worker. A worker of another behaviour has a queue of its own, so that
/// two versions can work side by side and neither gets the other's runs.
pub(crate) fn workflow_queue(project: &str) -> String {
    format!("{}{BEHAVIOUR_VERSION}", workflow_queues(project))
}

/// What the names of these queues begin with, whatever the behaviour.
pub(crate) fn workflow_queues(project: &str) -> String {
    format!("compozy/{project}/workflows/v")
}

/// Where the tasks of a plugin wait for a worker.
pub(crate) fn tool_queue(project: &str, plugin: &str) -> String {
    format!("compozy/{project}/tools/{plugin}")
}
