//! Tasks that reach beyond the run: signal, wait, memory, another workflow; and the triggers that start a workflow.

use serde_json::{Map, Value};

use super::task::Entry;
use super::{Around, Builder, Place};
use crate::diagnostic::Problems;
use crate::limits::SIGNAL_NAME_BYTES_MAX;
use crate::plan::{ChildWorkflow, Memory, MemoryOperation, ParentClose, SendSignal, TaskKind, Trigger, Wait};
use crate::policy::duration_of;
use crate::reader::Fields;
use crate::shared::{self, Schemas};
use crate::suggest::cut;
use crate::template::Template;
use crate::yaml::{Data, Node};

/// Keys of a memory task that its executor reads.
const MEMORY_OPTIONS: [&str; 6] =
    ["batch_size", "max_keys", "flush_config", "health_config", "stats_config", "clear_config"];

/// Reads `triggers` of a workflow.
pub(super) fn triggers(fields: &mut Fields<'_>, known: &[&Schemas], problems: &mut Problems) -> Vec<Trigger> {
    let mut triggers: Vec<Trigger> = Vec::new();
    for node in fields.list("triggers", problems).map_or(&[][..], |(items, _)| items) {
        let Some(mut entry) = Fields::of(node, "an item of `triggers`", problems) else { continue };
        let kind = entry.word("type", &["signal", "webhook"], problems);
        if let Some(("webhook", node)) = kind {
            problems
                .error(node.at, "PLAN_UNSUPPORTED", "the trigger type `webhook` is not yet supported")
                .help("start the workflow over the HTTP interface");
            continue;
        }
        let name = signal_name(&mut entry, "name", problems);
        let schema = shared::schema(&mut entry, "schema", known, problems);
        if let Some((name, node)) = name {
            if triggers.iter().any(|trigger| trigger.name == name) {
                problems
                    .error(node.at, "PLAN_DUPLICATE_ID", format!("the trigger `{}` is there twice", cut(&name)))
                    .value(&name);
            } else {
                triggers.push(Trigger { name, schema });
            }
        }
        entry.finish(problems);
    }
    triggers
}

/// A signal's name: not empty, short, without control characters.
fn signal_name<'n>(fields: &mut Fields<'n>, key: &'static str, problems: &mut Problems) -> Option<(String, &'n Node)> {
    let (name, node) = fields.required_text(key, problems)?;
    if name.is_empty() || name.len() > SIGNAL_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        problems
            .error(node.at, "PLAN_INVALID_ID", format!("`{}` cannot be the `{key}` of {}", cut(name), fields.what))
            .value(name)
            .help(format!("a signal's name has 1 to {SIGNAL_NAME_BYTES_MAX} bytes and no control characters"));
        return None;
    }
    Some((name.to_owned(), node))
}

impl Builder<'_> {
    pub(super) fn signal(&mut self, fields: &mut Fields<'_>, around: &Around) -> Option<TaskKind> {
        let what = fields.what.clone();
        if !fields.has("signal") {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is a signal and has no `signal`"))
                .help("write what it sends: `signal: {id: order-approved, payload: {...}}`");
            fields.take("signal");
            return None;
        }
        let mut signal = fields.fields("signal", self.problems)?;
        let name = signal_name(&mut signal, "id", self.problems);
        let payload =
            signal.take("payload").and_then(|node| self.template(node, &format!("`payload` of {what}"), around));
        let to = signal.take("to").and_then(|node| self.template(node, &format!("`to` of {what}"), around));
        signal.finish(self.problems);
        Some(TaskKind::Signal(Box::new(SendSignal { name: name?.0, to, payload })))
    }

    pub(super) fn wait(
        &mut self,
        fields: &mut Fields<'_>,
        around: &Around,
        inside: &Around,
        entry: &mut Entry,
    ) -> Option<TaskKind> {
        let what = fields.what.clone();
        let name = signal_name(fields, "wait_for", self.problems);
        let schemas = self.schemas.clone();
        let schema = shared::schema(fields, "schema", &[&schemas, &self.project.schemas], self.problems);
        let mut inside = Around { place: Place::Alone, ..inside.clone() };
        inside.variables.push("signal".to_owned());
        let processor = fields.take("processor").and_then(|node| {
            let mut lifted = Vec::new();
            self.task(node, &inside, &mut lifted).map(|entry| entry.task)
        });
        if processor.is_some() {
            inside.variables.push("processor".to_owned());
        }
        let condition =
            fields.take("condition").and_then(|node| self.condition(node, &format!("`condition` of {what}"), &inside));
        let timeout = self.wait_timeout(fields, around);
        let on_timeout = fields.text("on_timeout", self.problems).map(|(id, node)| (id.to_owned(), node.at));
        if let Some((id, at)) = &on_timeout {
            if around.place == Place::Alone {
                self.problems
                    .error(*at, "PLAN_CONTRADICTION", format!("`on_timeout` of {what}, which stands alone"))
                    .help("make the task around it a composite with both tasks in it");
            } else {
                entry.targets.push((id.clone(), *at, "on_timeout"));
            }
            if timeout.is_none() && !fields.has("timeout") {
                self.problems
                    .error(*at, "PLAN_CONTRADICTION", format!("{what} has `on_timeout` and no `timeout`"))
                    .help("add a timeout: `timeout: 30s`");
            }
        }
        Some(TaskKind::Wait(Box::new(Wait {
            name: name?.0,
            schema,
            condition,
            timeout,
            on_timeout: on_timeout.map(|(id, _)| id),
            processor,
        })))
    }

    /// A duration, checked here, or a template of one.
    fn wait_timeout(&mut self, fields: &mut Fields<'_>, around: &Around) -> Option<Template> {
        let what = format!("`timeout` of {}", fields.what);
        let node = fields.take("timeout")?;
        if matches!(&node.data, Data::Text(text) if text.contains("{{")) {
            return self.template(node, &what, around);
        }
        let ms = duration_of(node, &what, self.problems)?;
        Template::compile(&Value::from(ms)).ok()
    }

    pub(super) fn memory(&mut self, fields: &mut Fields<'_>, around: &Around) -> Option<TaskKind> {
        let what = fields.what.clone();
        let operation = fields
            .word("operation", &MemoryOperation::NAMES, self.problems)
            .and_then(|(name, _)| MemoryOperation::of(name));
        if !fields.has("operation") {
            fields.missing("operation", self.problems);
        }
        let memory = fields.required_text("memory_ref", self.problems).map(|(id, _)| id.to_owned());
        let key = fields
            .take("key_template")
            .and_then(|node| self.template(node, &format!("`key_template` of {what}"), around));
        let has_payload = fields.has("payload");
        let payload =
            fields.take("payload").and_then(|node| self.template(node, &format!("`payload` of {what}"), around));
        let mut options = Map::new();
        for name in MEMORY_OPTIONS {
            if let Some(node) = fields.take(name) {
                options.insert(name.to_owned(), node.json());
            }
        }
        let operation = operation?;
        if matches!(operation, MemoryOperation::Write | MemoryOperation::Append) && !has_payload {
            self.problems
                .error(
                    fields.at,
                    "PLAN_MISSING_KEY",
                    format!("{what} has the operation `{}` and no `payload`", operation.name()),
                )
                .help("write the messages: `payload: [{role: user, content: \"...\"}]`");
        }
        let confirmed = options.get("clear_config").and_then(|config| config.get("confirm")).and_then(Value::as_bool);
        if operation == MemoryOperation::Clear && confirmed != Some(true) {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} clears a memory and does not confirm it"))
                .help("write `clear_config: {confirm: true}`");
        }
        Some(TaskKind::Memory(Box::new(Memory {
            operation,
            memory: memory?,
            key,
            payload,
            options: Value::Object(options),
        })))
    }

    /// A basic task with `workflow` in place of `tool`.
    pub(super) fn child_workflow(&mut self, fields: &mut Fields<'_>) -> Option<TaskKind> {
        let what = fields.what.clone();
        let workflow = fields.id("workflow", self.problems).map(|(id, _)| id.to_owned());
        let close = fields.word("parent_close", &["cancel", "terminate", "abandon"], self.problems);
        for key in ["tool", "action"] {
            if let Some(node) = fields.take(key) {
                self.problems
                    .error(node.at, "PLAN_CONTRADICTION", format!("{what} has both `workflow` and `{key}`"))
                    .help("keep one of them");
            }
        }
        let parent_close = match close {
            Some(("terminate", _)) => ParentClose::Terminate,
            Some(("abandon", _)) => ParentClose::Abandon,
            _ => ParentClose::Cancel,
        };
        Some(TaskKind::Workflow(Box::new(ChildWorkflow { workflow: workflow?, parent_close })))
    }
}
