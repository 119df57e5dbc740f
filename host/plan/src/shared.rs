//! What project and workflow files have in common: schemas, tools and `env`.

use indexmap::IndexMap;
use serde_json::Value;

use crate::diagnostic::{Position, Problems};
use crate::plan::Tool;
use crate::policy::{PolicyLayer, duration};
use crate::reader::{Fields, wrong_type};
use crate::schema::Schema;
use crate::suggest::{cut, hint};
use crate::yaml::{Data, Node};

/// Schemas by id.
pub(crate) type Schemas = IndexMap<String, Schema>;

/// A tool of a file, with what it says about timeouts.
#[derive(Debug, Clone)]
pub(crate) struct ToolDef {
    pub(crate) tool: Tool,
    pub(crate) policy: PolicyLayer,
    pub(crate) at: Position,
    /// Where the action is named.
    pub(crate) action_at: Position,
}

/// Reads `schemas`: a list of schemas, each with an `id`.
pub(crate) fn schemas(fields: &mut Fields<'_>, problems: &mut Problems) -> Schemas {
    let mut schemas = Schemas::new();
    for node in fields.list("schemas", problems).map_or(&[][..], |(items, _)| items) {
        let Some(mut entry) = Fields::of(node, "an item of `schemas`", problems) else { continue };
        let Some((id, id_node)) = entry.id("id", problems) else { continue };
        let source = match entry.take("schema") {
            Some(schema) => schema.json(),
            None => match node.json() {
                Value::Object(mut all) => {
                    all.shift_remove("id");
                    Value::Object(all)
                }
                other => other,
            },
        };
        if let Some(schema) = compile(source, node, problems)
            && schemas.insert(id.to_owned(), schema).is_some()
        {
            problems.error(id_node.at, "PLAN_DUPLICATE_ID", format!("the schema `{id}` is there twice")).value(id);
        }
    }
    schemas
}

fn compile(source: Value, node: &Node, problems: &mut Problems) -> Option<Schema> {
    match Schema::compile(source) {
        Ok(schema) => Some(schema),
        Err(error) => {
            problems.error(node.at, "PLAN_INVALID_SCHEMA", error.to_string());
            None
        }
    }
}

/// Reads a schema: written out, or the id of one. `known` are looked up in order.
pub(crate) fn schema(
    fields: &mut Fields<'_>,
    name: &'static str,
    known: &[&Schemas],
    problems: &mut Problems,
) -> Option<Schema> {
    let node = fields.take(name)?;
    match &node.data {
        Data::Map(_) => compile(node.json(), node, problems),
        Data::Text(id) => {
            if let Some(schema) = known.iter().find_map(|schemas| schemas.get(id)) {
                return Some(schema.clone());
            }
            let ids: Vec<&str> = known.iter().flat_map(|schemas| schemas.keys()).map(String::as_str).collect();
            problems
                .error(
                    node.at,
                    "PLAN_UNKNOWN_SCHEMA",
                    format!("`{name}` of {} names the schema `{}`, which does not exist", fields.what, cut(id)),
                )
                .value(id)
                .help(hint(id, "ids under `schemas`", &ids));
            None
        }
        _ => {
            let what = format!("`{name}` of {}", fields.what);
            wrong_type(problems, node, &what, "a schema or the id of one");
            None
        }
    }
}

/// Reads `env`. Values are texts; integers and booleans count as what was written.
pub(crate) fn env(fields: &mut Fields<'_>, problems: &mut Problems) -> IndexMap<String, String> {
    let mut env = IndexMap::new();
    let Some(entries) = fields.fields("env", problems) else { return env };
    let what = entries.what.clone();
    for (key, node) in entries.into_entries() {
        match &node.data {
            Data::Text(text) => {
                if text.contains("{{") {
                    problems
                        .error(
                            node.at,
                            "PLAN_NOT_A_TEMPLATE",
                            format!("`{}` in {what} is plain text and cannot be a template", key.name),
                        )
                        .value(text);
                }
                env.insert(key.name.clone(), text.clone());
            }
            Data::Bool(value) => {
                env.insert(key.name.clone(), value.to_string());
            }
            Data::Number(number) if !number.is_f64() => {
                env.insert(key.name.clone(), number.to_string());
            }
            _ => wrong_type(problems, node, &format!("`{}` in {what}", key.name), "a text"),
        }
    }
    env
}

/// Reads `tools`.
pub(crate) fn tools(fields: &mut Fields<'_>, problems: &mut Problems) -> IndexMap<String, ToolDef> {
    let mut tools: IndexMap<String, ToolDef> = IndexMap::new();
    for node in fields.list("tools", problems).map_or(&[][..], |(items, _)| items) {
        let Some(def) = tool(node, "an item of `tools`", problems) else { continue };
        let id = def.tool.id.clone();
        if let Some(first) = tools.get(&id) {
            problems
                .error(
                    def.at,
                    "PLAN_DUPLICATE_ID",
                    format!("the tool `{id}` is already at line {}, column {}", first.at.line, first.at.column),
                )
                .value(&id)
                .help("give each tool its own id");
        } else {
            tools.insert(id, def);
        }
    }
    tools
}

/// Reads a tool that is written out.
pub(crate) fn tool(node: &Node, what: &str, problems: &mut Problems) -> Option<ToolDef> {
    let mut fields = Fields::of(node, what, problems)?;
    let id =
        if fields.has("id") || !fields.has("plugin") { fields.id("id", problems) } else { fields.text("id", problems) };
    if let Some((id, _)) = id {
        fields.what = format!("the tool `{id}`");
    }
    let plugin = if fields.has("plugin") {
        fields.id("plugin", problems)
    } else {
        fields.take("plugin");
        None
    };
    let id = id.or(plugin);
    fields.text("description", problems);
    let action = fields.text("action", problems);
    let config = fields.take("config").map_or(Value::Null, Node::json);
    let start_to_close_ms = duration(&mut fields, "timeout", problems);
    fields.unsupported(TOOL_UNSUPPORTED, problems);
    let at = fields.at;
    fields.finish(problems);
    let (id, id_node) = id?;
    let (plugin, plugin_node) = plugin.unwrap_or((id, id_node));
    Some(ToolDef {
        tool: Tool {
            id: id.to_owned(),
            plugin: plugin.to_owned(),
            action: action.map(|(action, _)| action.to_owned()),
            config,
        },
        policy: PolicyLayer { start_to_close_ms, ..PolicyLayer::default() },
        at: plugin_node.at,
        action_at: action.map_or(at, |(_, node)| node.at),
    })
}

const TOOL_UNSUPPORTED: &[(&str, &str)] = &[
    ("input", "write the schema at the task"),
    ("output", "write the schema at the task"),
    ("with", "write the arguments at the task"),
    ("env", "grant the plugin its environment in the project file under `plugins`"),
    ("code", "write a plugin"),
    ("resource", ""),
];
