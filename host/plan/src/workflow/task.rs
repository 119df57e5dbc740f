//! One task.

use serde_json::Value;

use super::{Around, Builder, Place};
use crate::diagnostic::Position;
use crate::dispatch::{ConcurrencyLimit, DispatchPolicy};
use crate::limits::{ATTEMPTS_MAX, TASK_DEPTH_MAX, TASKS_MAX};
use crate::plan::{Task, TaskKind, TaskPolicy, Tool, Transition};
use crate::policy::{self, Concurrency, PolicyLayer, duration};
use crate::reader::{Fields, wrong_type};
use crate::shared::{self, ToolDef};
use crate::suggest::{cut, hint, nearest};
use crate::yaml::{Data, Node};

/// A task with the places of what other checks need.
pub(super) struct Entry {
    pub(super) task: Task,
    /// Where the id is.
    pub(super) at: Position,
    /// Tasks that it goes to, with the key that says so.
    pub(super) targets: Vec<(String, Position, &'static str)>,
}

/// Types of task, as a file spells them.
const TYPES: [&str; 9] =
    ["basic", "router", "parallel", "collection", "aggregate", "composite", "signal", "wait", "memory"];

const UNSUPPORTED: &[(&str, &str)] = &[
    ("agent", "this version runs tools only: name one with `tool`"),
    ("model_config", "this version runs tools only: name one with `tool`"),
    ("prompt", "this version runs tools only: name one with `tool`"),
    ("knowledge", "remove it"),
    ("attachments", "remove it"),
    ("memory", "remove it"),
    ("env", "write values under `config.env` of the workflow"),
    ("heartbeat_timeout", "write it under `config` of the task"),
    ("schedule_to_start_timeout", "write it under `config` of the task"),
];

impl Builder<'_> {
    /// Reads a task. Tasks written out in routes are appended to `lifted`. `None` when the task cannot be named.
    pub(super) fn task(&mut self, node: &Node, around: &Around, lifted: &mut Vec<Entry>) -> Option<Entry> {
        let mut fields = Fields::of(node, "a task", self.problems)?;
        let raw_id = fields.text("id", self.problems).map(|(id, node)| (id.to_owned(), node.at));
        if let Some((id, _)) = &raw_id {
            fields.what = format!("the task `{}`", cut(id));
        }
        fields.id("id", self.problems);
        let (id, at) = raw_id?;
        if !self.may_be_here(&id, at, around) {
            return None;
        }
        self.ids.insert(id.clone());
        fields.word("resource", &["task"], self.problems);
        fields.text("description", self.problems);
        let kind_name = self.kind_name(&mut fields)?;

        let mut inside = around.clone();
        inside.ancestors.push(id.clone());
        let mut entry = Entry { task: placeholder(&id), at, targets: Vec::new() };
        self.common(&mut fields, around, &mut entry);
        entry.task.with = self.part(&mut fields, "with", around);
        let is_child = kind_name == "basic" && fields.has("workflow");
        let mut layer = PolicyLayer::default();
        match kind_name {
            "memory" => layer = self.policy_keys(&mut fields),
            "basic" if !is_child => layer = self.policy_keys(&mut fields),
            // A wait reads its own timeout, which may be a template.
            "wait" => fields.unsupported(&policy_of(kind_name)[1..], self.problems),
            "basic" | "parallel" | "collection" | "composite" => {
                entry.task.timeout_ms = duration(&mut fields, "timeout", self.problems).map(|(ms, _)| ms);
                fields.unsupported(&policy_of(kind_name)[1..], self.problems);
            }
            _ => fields.unsupported(&policy_of(kind_name), self.problems),
        }
        if !matches!(kind_name, "router" | "wait") {
            let what = format!("`condition` of {}", fields.what);
            entry.task.condition = fields.take("condition").and_then(|node| self.condition(node, &what, around));
        }
        let kind = match kind_name {
            "basic" if is_child => self.child_workflow(&mut fields),
            "basic" => self.basic(&mut fields, &mut layer),
            "router" => self.router(&mut fields, around, &mut entry, lifted),
            "parallel" => self.parallel_task(&mut fields, &inside),
            "collection" => self.collection(&mut fields, &inside),
            "composite" => self.composite(&mut fields, &inside),
            "signal" => self.signal(&mut fields, around),
            "wait" => self.wait(&mut fields, around, &inside, &mut entry),
            "memory" => self.memory(&mut fields, around),
            _ => Some(self.aggregate(&fields, &entry)),
        };
        if let Some(kind) = kind {
            entry.task.kind = kind;
        }
        let layer = layer.over(&self.policy);
        entry.task.policy = layer.resolve(&fields.what, self.problems);
        if matches!(entry.task.kind, TaskKind::Basic(_) | TaskKind::Memory(_)) {
            entry.task.dispatch = self.dispatch(layer, &fields.what, &entry.task, around);
        }
        if kind_name != "basic" {
            fields.unsupported(
                &[("action", "only a basic task has an action"), ("tool", "only a basic task has a tool")],
                self.problems,
            );
        }
        fields.unsupported(UNSUPPORTED, self.problems);
        fields.finish(self.problems);
        Some(entry)
    }

    /// Limits, and tasks that contain themselves.
    fn may_be_here(&mut self, id: &str, at: Position, around: &Around) -> bool {
        self.tasks += 1;
        if self.tasks > TASKS_MAX {
            if self.tasks == TASKS_MAX + 1 {
                self.problems
                    .error(at, "PLAN_TOO_MANY_TASKS", format!("the workflow has more than {TASKS_MAX} tasks"))
                    .help("use a collection for work that repeats, and several workflows for the rest");
            }
            return false;
        }
        if around.ancestors.len() >= TASK_DEPTH_MAX {
            self.problems
                .error(
                    at,
                    "PLAN_TASKS_TOO_DEEP",
                    format!("the task `{}` is nested more than {TASK_DEPTH_MAX} tasks deep", cut(id)),
                )
                .help("make it flatter");
            return false;
        }
        if around.ancestors.iter().any(|ancestor| ancestor == id) {
            let mut way: Vec<&str> =
                around.ancestors.iter().map(String::as_str).skip_while(|ancestor| *ancestor != id).collect();
            way.push(id);
            self.problems
                .error(
                    at,
                    "PLAN_NESTED_IN_ITSELF",
                    format!("the task `{}` is nested in itself: {}", cut(id), way.join(" > ")),
                )
                .value(id)
                .help("give the inner task its own id, or go back to the outer one with `on_success.next`");
            return false;
        }
        true
    }

    /// The type. `None`, and a problem, for one that does not exist.
    fn kind_name(&mut self, fields: &mut Fields<'_>) -> Option<&'static str> {
        let Some((name, node)) = fields.text("type", self.problems) else { return Some("basic") };
        let found = TYPES.iter().copied().find(|known| *known == name);
        if found.is_none() {
            self.problems
                .error(node.at, "PLAN_UNKNOWN_VALUE", format!("{}: there is no task type `{}`", fields.what, cut(name)))
                .value(name)
                .help(hint(name, "types", &TYPES));
        }
        found
    }

    fn part(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        around: &Around,
    ) -> Option<crate::template::Template> {
        let node = fields.take(name)?;
        let what = format!("`{name}` of {}", fields.what);
        if name == "with" && !matches!(node.data, Data::Map(_)) {
            wrong_type(self.problems, node, &what, "a mapping");
            return None;
        }
        self.template(node, &what, around)
    }

    /// Keys that every type has.
    fn common(&mut self, fields: &mut Fields<'_>, around: &Around, entry: &mut Entry) {
        let schemas = self.schemas.clone();
        let known = [&schemas, &self.project.schemas];
        entry.task.input = shared::schema(fields, "input", &known, self.problems);
        entry.task.output = shared::schema(fields, "output", &known, self.problems);
        entry.task.outputs = self.part(fields, "outputs", around);
        entry.task.on_success = self.transition(fields, "on_success", around, entry);
        entry.task.on_error = self.transition(fields, "on_error", around, entry);
        entry.task.sleep_ms = duration(fields, "sleep", self.problems).map(|(ms, _)| ms);
        let final_at = fields.take("final").map(|node| node.at);
        entry.task.is_final = fields.boolean("final", self.problems).unwrap_or(false);
        let Some(at) = final_at.filter(|_| entry.task.is_final) else { return };
        if around.place == Place::Alone {
            self.problems
                .error(
                    at,
                    "PLAN_CONTRADICTION",
                    format!("{} stands alone, so there is no list that `final` could end", fields.what),
                )
                .help("write `final: true` at the outer task, or make the task a composite");
        } else if entry.task.on_success.as_ref().is_some_and(|to| to.next.is_some()) {
            self.problems
                .error(at, "PLAN_CONTRADICTION", format!("{} is final and goes on to `on_success.next`", fields.what))
                .help("remove one of the two");
        }
    }

    fn transition(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        around: &Around,
        entry: &mut Entry,
    ) -> Option<Transition> {
        let outer = fields.what.clone();
        let mut to = fields.fields(name, self.problems)?;
        let next = to.text("next", self.problems).map(|(next, node)| (next.to_owned(), node.at));
        let with = self.part(&mut to, "with", around);
        if let Some((next, at)) = &next {
            if around.place == Place::Alone {
                self.problems
                    .error(
                        *at,
                        "PLAN_UNSUPPORTED",
                        format!(
                            "`{name}.next` of {outer}: a task of a collection, of a parallel or of a wait stands alone and cannot go \
                             to another"
                        ),
                    )
                    .help("go on from the task around it, or make it a composite");
            } else {
                entry.targets.push((next.clone(), *at, name));
            }
        }
        to.finish(self.problems);
        Some(Transition { next: next.map(|(next, _)| next), with })
    }

    /// Timeouts and retries of a basic task.
    fn policy_keys(&mut self, fields: &mut Fields<'_>) -> PolicyLayer {
        let mut layer = PolicyLayer::default();
        if let Some(mut config) = fields.fields("config", self.problems) {
            layer = policy::layer(&mut config, self.problems);
            config.finish(self.problems);
        }
        let mut own =
            PolicyLayer { start_to_close_ms: duration(fields, "timeout", self.problems), ..PolicyLayer::default() };
        policy::retry(fields, &mut own, self.problems);
        policy::dispatch(fields, &mut own, self.problems);
        if let Some((retries, node)) = fields.integer("retries", 0, u64::from(ATTEMPTS_MAX) - 1, self.problems) {
            if own.maximum_attempts.is_some() {
                self.problems
                    .error(
                        node.at,
                        "PLAN_CONTRADICTION",
                        format!("{} has both `retries` and `retry_policy.maximum_attempts`", fields.what),
                    )
                    .help("keep one of them; `retries: 2` means 3 attempts in all");
            }
            own.maximum_attempts = u32::try_from(retries + 1).ok();
        }
        own.over(&layer)
    }

    /// When the task may begin.
    fn dispatch(&mut self, layer: PolicyLayer, what: &str, task: &Task, around: &Around) -> DispatchPolicy {
        let mut limits = Vec::new();
        if let TaskKind::Basic(tool) = &task.kind
            && let Some(limit) = self.project.plugins.get(&tool.plugin).and_then(|settings| settings.concurrency)
        {
            limits.push(ConcurrencyLimit { scope: format!("plugin/{}", tool.plugin), key: None, limit });
        }
        if let Some(Concurrency { key, limit }) = layer.concurrency {
            let scope = match &key {
                Some(_) => "key".to_owned(),
                None => format!("task/{}/{}", self.workflow, task.id),
            };
            let what = format!("`concurrency.key` of {what}");
            let key = key.and_then(|node| self.template(&node, &what, around));
            limits.push(ConcurrencyLimit { scope, key, limit });
        }
        DispatchPolicy { priority: layer.priority, limits }
    }

    fn basic(&mut self, fields: &mut Fields<'_>, layer: &mut PolicyLayer) -> Option<TaskKind> {
        let what = fields.what.clone();
        let action = fields.text("action", self.problems);
        let Some(node) = fields.take("tool") else {
            // Whoever wrote an agent is told about that, and not about the tool.
            if !fields.has("agent") && !fields.has("prompt") && !fields.has("model_config") {
                self.problems.error(fields.at, "PLAN_MISSING_KEY", format!("{what} has no `tool`")).help(
                    "name one of the workflow's `tools`: `tool: my-tool`, or a workflow: `workflow: my-workflow`",
                );
            }
            return None;
        };
        let mut def: ToolDef = match &node.data {
            Data::Text(id) => self.known_tool(id, node, &what)?,
            Data::Map(_) => shared::tool(node, &format!("`tool` of {what}"), self.problems)?,
            _ => {
                wrong_type(self.problems, node, &format!("`tool` of {what}"), "the id of a tool or a mapping");
                return None;
            }
        };
        let (plugin_at, mut action_at) =
            (if matches!(node.data, Data::Text(_)) { node.at } else { def.at }, def.action_at);
        if let Some((action, node)) = action {
            def.tool.action = Some(action.to_owned());
            action_at = node.at;
        } else if matches!(node.data, Data::Text(_)) {
            action_at = node.at;
        }
        *layer = std::mem::take(layer).over(&def.policy);
        self.check_plugin(&def.tool, plugin_at, action_at, &what);
        Some(TaskKind::Basic(def.tool))
    }

    fn known_tool(&mut self, id: &str, node: &Node, what: &str) -> Option<ToolDef> {
        if let Some(def) = self.tools.get(id) {
            return Some(def.clone());
        }
        let ids: Vec<&str> = self.tools.keys().map(String::as_str).collect();
        let help = match nearest(id, ids.iter().copied()) {
            None => format!(
                "add it under `tools`: `- id: {}`, or write the tool out: `tool: {{plugin: ...}}`; {}",
                cut(id),
                hint(id, "tools", &ids)
            ),
            Some(_) => hint(id, "tools", &ids),
        };
        self.problems
            .error(
                node.at,
                "PLAN_UNKNOWN_TOOL",
                format!("{what}: there is no tool `{}` in the workflow or the project", cut(id)),
            )
            .value(id)
            .help(help);
        None
    }

    fn check_plugin(&mut self, tool: &Tool, plugin_at: Position, action_at: Position, what: &str) {
        let Some(catalog) = self.catalog else { return };
        let Some(actions) = catalog.plugins.get(&tool.plugin) else {
            let names: Vec<&str> = catalog.plugins.keys().map(String::as_str).collect();
            self.problems
                .error(plugin_at, "PLAN_UNKNOWN_PLUGIN", format!("{what}: there is no plugin `{}`", cut(&tool.plugin)))
                .value(&tool.plugin)
                .help(hint(&tool.plugin, "plugins", &names));
            return;
        };
        let names: Vec<&str> = actions.iter().map(|action| action.name.as_str()).collect();
        if names.is_empty() {
            self.problems
                .error(
                    plugin_at,
                    "PLAN_UNKNOWN_ACTION",
                    format!("{what}: the plugin `{}` has no actions, so no task can call it", tool.plugin),
                )
                .help("name a plugin that exports a task executor");
        } else if let Some(action) = &tool.action
            && !names.contains(&action.as_str())
        {
            self.problems
                .error(
                    action_at,
                    "PLAN_UNKNOWN_ACTION",
                    format!("{what}: the plugin `{}` has no action `{}`", tool.plugin, cut(action)),
                )
                .value(action)
                .help(hint(action, "actions", &names));
        }
    }

    fn aggregate(&mut self, fields: &Fields<'_>, entry: &Entry) -> TaskKind {
        if entry.task.outputs.is_none() && !fields.has("outputs") {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{} is an aggregate and has no `outputs`", fields.what))
                .help("write what it puts together: `outputs: {name: \"{{ .tasks.a.output.name }}\"}`");
        }
        TaskKind::Aggregate
    }
}

/// Policy keys of a type of task that nothing enforces them for.
fn policy_of(kind: &str) -> [(&'static str, &'static str); 6] {
    let reason = match kind {
        "collection" => "write it at the collection's `task`",
        "composite" | "parallel" => "write it at its `tasks`",
        "basic" => "write it in the workflow that the task runs",
        "wait" => "a wait makes no attempts; write its `timeout`",
        _ => "a task of this type calls nothing that could take long or fail for a while; remove it",
    };
    let keys = ["timeout", "retries", "retry_policy", "config", "priority", "concurrency"];
    keys.map(|key| (key, reason))
}

/// A task that is filled in while its keys are read.
fn placeholder(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        kind: TaskKind::Basic(Tool { id: String::new(), plugin: String::new(), action: None, config: Value::Null }),
        with: None,
        input: None,
        output: None,
        outputs: None,
        on_success: None,
        on_error: None,
        is_final: false,
        policy: TaskPolicy::default(),
        dispatch: DispatchPolicy::default(),
        condition: None,
        sleep_ms: None,
        timeout_ms: None,
    }
}
