//! What templates and conditions see from a place of the run. Borrowed from the state: outputs are never copied,
//! except the lists of `children`, and those only for a template that mentions them.

use std::collections::BTreeMap;

use compozy_plan::condition::Condition;
use compozy_plan::plan::{Collection, Plan, Task};
use compozy_plan::scope::{Node, Scope};
use compozy_plan::template::Template;
use serde_json::{Value, json};

use crate::blob::Reading;
use crate::event::{Failure, TaskKey};
use crate::fault::{Fault, Place};
use crate::limits::READ_BYTES_MAX;
use crate::locate::{Children, Frame, frames};
use crate::signal::signal_value;
use crate::state::{RunState, TaskState};

/// What templates and conditions read from.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) state: &'a RunState,
    pub(crate) reading: &'a Reading<'a>,
}

/// A place of the run from which a template or a condition is evaluated.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Site<'a> {
    /// The task's key; `None` for the workflow itself.
    pub(crate) key: Option<&'a TaskKey>,
    /// The container around the task; `None` is the workflow.
    pub(crate) container: Option<&'a TaskKey>,
    /// The task's place in the container.
    pub(crate) at: usize,
    /// The task.
    pub(crate) task: Option<&'a Task>,
    /// The task's rendered arguments.
    pub(crate) with: Option<&'a Value>,
    /// The executor's answer, or what stands for it.
    pub(crate) output: Option<&'a Value>,
    /// The item that a filter looks at.
    pub(crate) item: Option<Item<'a>>,
    /// The signal that a wait looks at.
    pub(crate) signal: Option<&'a Value>,
    /// What the processor of a wait answered.
    pub(crate) processor: Option<&'a Value>,
}

/// An item of a collection that has no child yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) collection: &'a Collection,
    pub(crate) value: &'a Value,
    pub(crate) at: usize,
}

impl<'a> Site<'a> {
    /// Of a task that has not begun: it has no arguments yet.
    pub(crate) fn outside(key: &'a TaskKey, container: Option<&'a TaskKey>, at: usize, task: &'a Task) -> Self {
        Self { key: Some(key), container, at, task: Some(task), ..Self::default() }
    }

    /// Of a task that has begun.
    pub(crate) fn inside(key: &'a TaskKey, entry: &'a TaskState, task: &'a Task) -> Self {
        Self { with: Some(entry.arguments()), ..Self::outside(key, entry.parent.as_ref(), entry.at, task) }
    }

    /// The task's own `with`, over that of a collection around it.
    pub(crate) fn arguments(self, world: World<'_>) -> Result<Value, Fault> {
        let own = match self.task.and_then(|task| task.with.as_ref()) {
            Some(template) => self.render(world, template, "with")?,
            None => Value::Null,
        };
        let around = self.container.and_then(|container| world.state.tasks.get(container));
        Ok(match (around, own) {
            (Some(around), own) if around.kind == "collection" => merged(&around.with, own),
            (_, own) => own,
        })
    }

    /// Renders a template of the field `field`. Values that are kept apart and only handed on stay references.
    pub(crate) fn render(self, world: World<'_>, template: &Template, field: &'static str) -> Result<Value, Fault> {
        let mentions = Mentions::of_template(template);
        let unread = self.scope(world.plan, world.state, &mentions)?;
        let rendered = if world.state.has_blobs {
            let everything = mentions.is_anything();
            let scope = world.reading.for_template(&unread, template, everything);
            self.all_read(world, field)?;
            template.render_handing_on(&scope, Some(&unread))
        } else {
            template.render(&unread)
        };
        let place = || self.place();
        rendered.map_err(|error| Fault::Template { place: place(), field, reason: error.to_string() })
    }

    /// As [`Self::render`], with everything read.
    pub(crate) fn render_whole(
        self,
        world: World<'_>,
        template: &Template,
        field: &'static str,
    ) -> Result<Value, Fault> {
        let rendered = self.render(world, template, field)?;
        let whole = world.reading.whole(rendered);
        self.all_read(world, field)?;
        Ok(whole)
    }

    /// The value of a condition of the field `field`.
    pub(crate) fn evaluate(self, world: World<'_>, condition: &Condition, field: &'static str) -> Result<Value, Fault> {
        let scope = self.read_scope(world, condition, field)?;
        condition.evaluate(&scope).map_err(|error| self.condition_fault(field, &error))
    }

    /// Whether a condition of the field `field` holds.
    pub(crate) fn is_true(self, world: World<'_>, condition: &Condition, field: &'static str) -> Result<bool, Fault> {
        let scope = self.read_scope(world, condition, field)?;
        condition.is_true(&scope).map_err(|error| self.condition_fault(field, &error))
    }

    fn all_read(self, world: World<'_>, field: &'static str) -> Result<(), Fault> {
        if world.reading.exceeded() {
            return Err(Fault::ReadTooMuch { place: self.place(), field, limit: READ_BYTES_MAX });
        }
        Ok(())
    }

    fn read_scope<'w>(self, world: World<'w>, condition: &Condition, field: &'static str) -> Result<Scope<'w>, Fault>
    where
        'a: 'w,
    {
        let scope = self.scope(world.plan, world.state, &Mentions::of_condition(condition))?;
        if !world.state.has_blobs {
            return Ok(scope);
        }
        let scope = world.reading.for_condition(scope, condition);
        self.all_read(world, field)?;
        Ok(scope)
    }

    fn condition_fault(self, field: &'static str, error: &dyn std::fmt::Display) -> Fault {
        let reason = match self.item {
            Some(item) => format!("for item {}: {error}", item.at),
            None => error.to_string(),
        };
        Fault::Condition { place: self.place(), field, reason }
    }

    fn place(self) -> Place {
        self.key.map_or(Place::Workflow, |key| Place::Task(key.clone()))
    }

    fn scope(self, plan: &'a Plan, state: &'a RunState, mentions: &Mentions<'_>) -> Result<Scope<'a>, Fault> {
        let Some(frames) = frames(plan, state, self.container, self.at) else {
            let key = self.key.or(self.container).cloned().unwrap_or_else(|| TaskKey(String::new()));
            return Err(Fault::mismatch(&key, "the containers around it"));
        };
        let mut scope = Scope::new();
        if mentions.has("workflow") {
            scope.insert("workflow", workflow(plan, state));
        }
        scope.insert("input", &state.input);
        if mentions.has("project") {
            let project = &plan.project;
            let about = json!({ "name": project.name, "version": project.version, "description": project.description });
            scope.insert("project", about);
        }
        if mentions.has("env") {
            let fields = plan.env.iter().map(|(name, value)| (name.as_str(), Node::from(value.as_str())));
            scope.insert("env", Node::map(fields));
        }
        if !matches!(mentions.tasks, Tasks::Nothing) {
            scope.insert("tasks", tasks(plan, state, &frames, &mentions.tasks));
        }
        let mut parent = None;
        for frame in &frames {
            insert_item(&mut scope, frame);
            if let Some(received) = frame.state.wait.as_ref().and_then(|wait| wait.looking.as_ref()) {
                scope.insert("signal", signal_value(plan, received));
            }
            parent = Some(as_parent(frame, parent));
        }
        if let Some(parent) = parent {
            scope.insert("parent", parent);
        }
        if let Some(task) = self.task.filter(|_| mentions.has("task")) {
            scope.insert("task", json!({ "id": task.id, "type": task.kind.name() }));
        }
        if let Some(with) = self.with {
            scope.insert("with", with);
        }
        if let Some(output) = self.output {
            scope.insert("output", output);
        }
        if let Some(signal) = self.signal {
            scope.insert("signal", signal);
        }
        if let Some(processor) = self.processor {
            scope.insert("processor", processor);
        }
        if let Some(item) = self.item {
            scope.insert(&item.collection.item_var, item.value);
            scope.insert(&item.collection.index_var, Value::from(item.at));
        }
        if mentions.names.iter().flatten().any(|name| !scope.has(name)) {
            // The message can only name what is near if it knows what there is.
            return self.scope(plan, state, &Mentions { names: None, tasks: mentions.tasks.clone() });
        }
        Ok(scope)
    }
}

/// What a text reads of its scope. Only that is provided: a run may have thousands of tasks.
#[derive(Debug)]
struct Mentions<'t> {
    /// Names at the top of the scope; `None` when it cannot be told beforehand.
    names: Option<Vec<&'t str>>,
    tasks: Tasks<'t>,
}

#[derive(Debug, Clone)]
enum Tasks<'t> {
    /// None.
    Nothing,
    /// Tasks by id, and whether their children are asked for.
    These(BTreeMap<&'t str, bool>),
    /// It cannot be told beforehand.
    Anything,
}

impl<'t> Mentions<'t> {
    const ANYTHING: Self = Self { names: None, tasks: Tasks::Anything };

    fn of_condition(condition: &'t Condition) -> Self {
        Self::of_paths(condition.references().iter().map(Vec::as_slice))
    }

    fn of_template(template: &'t Template) -> Self {
        if template.is_opaque() {
            return Self::ANYTHING;
        }
        Self::of_paths(template.references().iter().map(|reference| reference.path.as_slice()))
    }

    fn of_paths(paths: impl Iterator<Item = &'t [String]>) -> Self {
        let (mut names, mut tasks) = (Vec::new(), BTreeMap::new());
        for path in paths {
            match path {
                [root, id, rest @ ..] if root == "tasks" => {
                    let children = rest.first().is_none_or(|field| field == "children");
                    *tasks.entry(id.as_str()).or_insert(false) |= children;
                }
                [root] if root == "tasks" => return Self::ANYTHING,
                _ => {}
            }
            names.extend(path.first().map(String::as_str));
        }
        let tasks = if tasks.is_empty() { Tasks::Nothing } else { Tasks::These(tasks) };
        Self { names: Some(names), tasks }
    }

    fn has(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(&name))
    }

    fn is_anything(&self) -> bool {
        self.names.is_none()
    }
}

fn workflow<'a>(plan: &'a Plan, state: &'a RunState) -> Node<'a> {
    Node::map([
        ("id", Node::from(plan.workflow.as_str())),
        ("version", Node::from(plan.version.as_str())),
        ("execution_id", Node::from(state.execution_id.as_str())),
        ("input", Node::from(&state.input)),
        ("status", Node::from(state.status.name())),
    ])
}

/// The tasks that the run came to, of all lists around the place. A name of an inner list hides that of an outer one,
/// also when the run has not come to the inner task.
fn tasks<'a>(plan: &'a Plan, state: &'a RunState, frames: &[Frame<'a, 'a>], mentions: &Tasks<'_>) -> Node<'a> {
    let lists: Vec<(Option<&'a TaskKey>, &'a [Task])> = std::iter::once((None, plan.tasks.as_slice()))
        .chain(frames.iter().filter_map(|frame| match Children::of(frame.task) {
            Some(Children::List(tasks)) => Some((Some(frame.key), tasks)),
            // Tasks beside each other do not see each other: what they saw would depend on the order of answers.
            Some(Children::Each(_) | Children::Beside(_) | Children::Processor(_)) | None => None,
        }))
        .collect();
    let Tasks::These(mentioned) = mentions else {
        return Node::Map(all_tasks(state, &lists, true));
    };
    let mut fields = BTreeMap::new();
    for (id, children) in mentioned {
        let found = lists
            .iter()
            .rev()
            .find_map(|(container, tasks)| Some((*container, tasks.iter().find(|task| task.id == *id)?)));
        if let Some(node) = found.and_then(|(container, task)| task_node(state, container, task, *children)) {
            fields.insert((*id).to_owned(), node);
        }
    }
    if fields.len() < mentioned.len() {
        // Something is missing. The message can only name what is near if it knows what there is.
        let mut all = all_tasks(state, &lists, false);
        all.append(&mut fields);
        return Node::Map(all);
    }
    Node::Map(fields)
}

fn all_tasks<'a>(
    state: &'a RunState,
    lists: &[(Option<&'a TaskKey>, &'a [Task])],
    children: bool,
) -> BTreeMap<String, Node<'a>> {
    let mut fields = BTreeMap::new();
    for (container, tasks) in lists {
        for task in *tasks {
            match task_node(state, *container, task, children) {
                Some(node) => drop(fields.insert(task.id.clone(), node)),
                None => drop(fields.remove(&task.id)),
            }
        }
    }
    fields
}

/// The latest visit of a task; `None` when the run has not come to it.
fn task_node<'a>(state: &'a RunState, container: Option<&TaskKey>, task: &'a Task, children: bool) -> Option<Node<'a>> {
    let (key, entry) = latest(state, container, &task.id)?;
    let mut fields = result(entry);
    let shown = Children::of(task).filter(|kind| {
        // How far its siblings are depends on the order of answers: a child must not see it.
        children && (entry.status.is_terminal() || matches!(kind, Children::List(_)))
    });
    if let Some(children) = shown {
        fields.insert("children".to_owned(), children_of(state, key, entry, children));
    }
    Some(Node::Map(fields))
}

fn latest<'a>(state: &'a RunState, container: Option<&TaskKey>, id: &str) -> Option<(&'a TaskKey, &'a TaskState)> {
    state.tasks.get_key_value(&state.latest(&TaskKey::of(container, id)))
}

/// Status, output and error of a task; output and error are null unless there is one.
fn result(entry: &TaskState) -> BTreeMap<String, Node<'_>> {
    let output = entry.output.as_ref().map_or(Node::Owned(Value::Null), Node::Value);
    let error = entry.failure.as_ref().map_or(Node::Owned(Value::Null), error);
    let skipped = Node::Owned(Value::Bool(entry.skipped));
    [("status", Node::from(entry.status.name())), ("output", output), ("error", error), ("skipped", skipped)]
        .into_iter()
        .map(|(name, node)| (name.to_owned(), node))
        .collect()
}

fn error(failure: &Failure) -> Node<'_> {
    Node::map([
        ("code", Node::from(failure.code.as_str())),
        ("message", Node::from(failure.message.as_str())),
        ("details", Node::from(&failure.details)),
    ])
}

/// The children of a collection as a list in the order of the items, those of a composite by id.
fn children_of<'a>(state: &'a RunState, key: &TaskKey, entry: &TaskState, children: Children<'_>) -> Node<'a> {
    match children {
        Children::List(tasks) | Children::Beside(tasks) => Node::map(tasks.iter().filter_map(|task| {
            let (_, child) = latest(state, Some(key), &task.id)?;
            Some((task.id.as_str(), Node::Map(result(child))))
        })),
        Children::Processor(task) => {
            Node::map(latest(state, Some(key), &task.id).map(|(_, child)| (task.id.as_str(), Node::Map(result(child)))))
        }
        Children::Each(_) => {
            let started = entry.progress.as_ref().map_or(0, |progress| progress.started);
            let children = (0..started).filter_map(|at| {
                let child = state.tasks.get(&state.latest(&key.item(at)))?;
                let error = child.failure.as_ref().map(
                    |failure| json!({ "code": failure.code, "message": failure.message, "details": failure.details }),
                );
                Some(json!({ "status": child.status.name(), "output": child.output, "error": error }))
            });
            Node::Owned(Value::Array(children.collect()))
        }
    }
}

/// The item of a collection around the place, under the names that the collection gives it.
fn insert_item<'a>(scope: &mut Scope<'a>, frame: &Frame<'a, 'a>) {
    let (Some(Children::Each(collection)), Some(progress)) = (Children::of(frame.task), &frame.state.progress) else {
        return;
    };
    if let Some(item) = progress.items.get(frame.child_at) {
        scope.insert(&collection.item_var, item);
        scope.insert(&collection.index_var, Value::from(frame.child_at));
    }
}

/// A container as its children see it.
fn as_parent<'a>(frame: &Frame<'a, 'a>, parent: Option<Node<'a>>) -> Node<'a> {
    let fields = [
        ("id", Node::from(frame.task.id.as_str())),
        ("type", Node::from(frame.task.kind.name())),
        ("with", Node::from(frame.state.arguments())),
    ];
    Node::map(fields.into_iter().chain(parent.map(|parent| ("parent", parent))))
}

/// Arguments of a collection with those of its child over them.
fn merged(around: &Value, own: Value) -> Value {
    match (around, own) {
        (Value::Object(around), Value::Object(own)) => {
            let mut both = around.clone();
            both.extend(own);
            Value::Object(both)
        }
        (around, Value::Null) => around.clone(),
        (_, own) => own,
    }
}

#[cfg(test)]
mod tests {
    use compozy_plan::template::Template;
    use serde_json::json;

    use super::{Mentions, Tasks};

    #[test]
    fn a_template_gets_the_tasks_that_it_reads() {
        let cases = [
            ("no {{ .input.tasks_done }}", "anything"),
            ("plain text", "nothing"),
            ("{{ .input.a }} costs 3.50 $ ", "anything"),
            ("{{ .input.a }} costs 3.50", "nothing"),
            ("{{ .tasks.a.output.b }}", "a"),
            ("{{ $.tasks.a.output }}{{ .tasks.a.error }}{{ .tasks.b-c.status }}", "a b-c"),
            ("{{ .tasks.a.children }}", "a+children"),
            ("{{ toJson .tasks.a }}", "a+children"),
            ("{{ index .tasks \"a\" }}", "anything"),
            ("{{ toJson . }}", "anything"),
            ("{{ $s := $ }}{{ $s.input }}", "anything"),
            ("{{ range .input.list }}{{ $.tasks.a.output }}{{ end }}", "a"),
        ];
        for (text, expected) in cases {
            let template = Template::compile(&json!({ "field": text })).expect(text);
            let found = match Mentions::of_template(&template).tasks {
                Tasks::Nothing => "nothing".to_owned(),
                Tasks::Anything => "anything".to_owned(),
                Tasks::These(tasks) => tasks
                    .iter()
                    .map(|(id, children)| format!("{id}{}", if *children { "+children" } else { "" }))
                    .collect::<Vec<_>>()
                    .join(" "),
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}
