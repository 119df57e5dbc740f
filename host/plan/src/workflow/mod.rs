//! The workflow file.

mod check;
mod kinds;
mod outside;
mod task;

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::SourceFile;
use crate::catalog::Catalog;
use crate::condition::{Condition, ConditionErrorKind};
use crate::diagnostic::{Outcome, Position, Problems};
use crate::plan::{PLAN_FORMAT, Plan};
use crate::policy::{self, PolicyLayer};
use crate::project::{Project, author};
use crate::reader::{Fields, wrong_type};
use crate::shared::{self, Schemas, ToolDef};
use crate::template::{Template, TemplateErrorKind};
use crate::yaml::{self, Data, Node};

/// Compiles a workflow file. Without a catalog plugins and actions are not checked.
pub fn compile_workflow(file: &SourceFile, project: &Project, catalog: Option<&Catalog>) -> Outcome<Plan> {
    let mut problems = Problems::new(&file.path);
    let plan = yaml::parse(file, &mut problems).and_then(|root| workflow(&root, project, catalog, &mut problems));
    problems.outcome(plan)
}

const UNSUPPORTED: &[(&str, &str)] = &[
    ("agents", "this version runs tools only; remove it"),
    ("models", "this version runs tools only; remove it"),
    ("mcps", "this version runs tools only; remove it"),
    ("knowledge_bases", "remove it"),
    ("knowledge", "remove it"),
    ("memories", "remove it"),
    ("schedule", "start the workflow over the HTTP interface"),
];

fn workflow(root: &Node, project: &Project, catalog: Option<&Catalog>, problems: &mut Problems) -> Option<Plan> {
    let mut fields = Fields::of(root, "the workflow file", problems)?;
    fields.word("resource", &["workflow"], problems);
    let id = fields.id("id", problems).map(|(id, _)| id.to_owned()).unwrap_or_default();
    let version = fields.text("version", problems).map(|(text, _)| text.to_owned()).unwrap_or_default();
    let description = fields.text("description", problems).map(|(text, _)| text.to_owned()).unwrap_or_default();
    author(&mut fields, problems);
    let schemas = shared::schemas(&mut fields, problems);
    let mut env = project.env.clone();
    let mut policy = project.policy.clone();
    let (mut input, mut timeout_ms) = (None, None);
    if let Some(mut config) = fields.fields("config", problems) {
        policy = policy::layer(&mut config, problems).over(&policy);
        input = shared::schema(&mut config, "input", &[&schemas, &project.schemas], problems);
        env.extend(shared::env(&mut config, problems));
        timeout_ms = policy::duration(&mut config, "workflow_timeout", problems).map(|(ms, _)| ms);
        config.finish(problems);
    }
    let triggers = outside::triggers(&mut fields, &[&schemas, &project.schemas], problems);
    let mut tools = project.tools.clone();
    tools.extend(shared::tools(&mut fields, problems));
    let task_nodes = fields.list("tasks", problems);
    let outputs = fields.take("outputs");
    // Of the run, not of its tasks: a start may say otherwise, and then counts for all that say nothing themselves.
    let priority = policy.priority.take();
    let mut builder = Builder {
        problems,
        workflow: &id,
        project,
        schemas,
        tools,
        policy,
        catalog,
        tasks: 0,
        ids: BTreeSet::new(),
        uses: Vec::new(),
    };
    let around = Around::default();
    let tasks = match task_nodes {
        Some(([], at)) => {
            builder
                .problems
                .error(at.at, "PLAN_NO_TASKS", "the workflow has no tasks")
                .help("add a task under `tasks`");
            Vec::new()
        }
        Some((nodes, _)) => builder.list(nodes, &around, "the workflow"),
        None => {
            if !fields.has("tasks") {
                fields.missing("tasks", builder.problems);
            }
            Vec::new()
        }
    };
    let outputs = outputs.and_then(|node| builder.template(node, "`outputs` of the workflow", &around));
    builder.check_uses();
    fields.unsupported(UNSUPPORTED, problems);
    fields.finish(problems);
    if problems.has_errors() {
        return None;
    }
    Some(Plan {
        format: PLAN_FORMAT,
        workflow: id,
        version,
        description,
        project: project.info.clone(),
        input,
        env,
        tasks,
        outputs,
        timeout_ms,
        triggers,
        priority,
    })
}

/// What is around a task.
#[derive(Debug, Clone, Default)]
struct Around {
    /// Ids of the tasks that contain it, outermost first.
    ancestors: Vec<String>,
    /// Variables that collections around it declare.
    variables: Vec<String>,
    place: Place,
}

/// The kind of list that a task stands in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Workflow,
    Composite,
    /// No list: the task of a collection, of a parallel, or the processor of a wait.
    Alone,
}

/// A path that a template or condition reads, to be checked when all tasks are known.
struct Use {
    path: Vec<String>,
    at: Position,
    what: String,
    variables: Vec<String>,
    /// In a condition names with hyphens are written in brackets.
    condition: bool,
}

struct Builder<'b> {
    workflow: &'b str,
    problems: &'b mut Problems,
    project: &'b Project,
    schemas: Schemas,
    tools: IndexMap<String, ToolDef>,
    policy: PolicyLayer,
    catalog: Option<&'b Catalog>,
    /// Tasks seen so far, all levels together.
    tasks: usize,
    /// Ids of all tasks, all levels together.
    ids: BTreeSet<String>,
    uses: Vec<Use>,
}

impl Builder<'_> {
    /// Compiles a template, and notes what it reads.
    fn template(&mut self, node: &Node, what: &str, around: &Around) -> Option<Template> {
        match Template::compile_all(&node.json()) {
            Ok(template) => {
                for reference in template.references() {
                    self.uses.push(Use {
                        path: reference.path.clone(),
                        at: node.follow(&reference.leaf).at,
                        what: what.to_owned(),
                        variables: around.variables.clone(),
                        condition: false,
                    });
                }
                Some(template)
            }
            Err(errors) => {
                for error in errors {
                    let leaf = node.follow(&error.path);
                    let code = match error.kind {
                        TemplateErrorKind::UnknownFunction => "PLAN_UNKNOWN_FUNCTION",
                        TemplateErrorKind::UnknownVariable => "PLAN_UNKNOWN_VARIABLE",
                        TemplateErrorKind::Arguments => "PLAN_TEMPLATE_ARGUMENTS",
                        TemplateErrorKind::Limit => "PLAN_TEMPLATE_LIMIT",
                        _ => "PLAN_TEMPLATE_SYNTAX",
                    };
                    let text = leaf.shown().unwrap_or_default();
                    let place =
                        error.offset.and_then(|offset| text.get(..offset)).map(|before| before.chars().count() + 1);
                    let place = place.map(|place| format!(", character {place}")).unwrap_or_default();
                    self.problems.error(leaf.at, code, format!("{what}{place}: {}", error.message)).value(&text);
                }
                None
            }
        }
    }

    /// Compiles a condition, and notes what it reads.
    fn condition(&mut self, node: &Node, what: &str, around: &Around) -> Option<Condition> {
        let text = match &node.data {
            Data::Text(text) => text.clone(),
            // `condition: true` is what it looks like.
            Data::Bool(value) => value.to_string(),
            _ => {
                wrong_type(self.problems, node, what, "a text with a CEL expression");
                return None;
            }
        };
        match Condition::compile(&text) {
            Ok(condition) => {
                for path in condition.references() {
                    self.uses.push(Use {
                        path: path.clone(),
                        at: node.at,
                        what: what.to_owned(),
                        variables: around.variables.clone(),
                        condition: true,
                    });
                }
                Some(condition)
            }
            Err(error) => {
                let code = match error.kind {
                    ConditionErrorKind::UnknownFunction => "PLAN_UNKNOWN_FUNCTION",
                    ConditionErrorKind::Limit => "PLAN_CONDITION_LIMIT",
                    _ => "PLAN_CONDITION_SYNTAX",
                };
                self.problems.error(node.at, code, format!("{what}: {}", error.message)).value(&text);
                None
            }
        }
    }
}
