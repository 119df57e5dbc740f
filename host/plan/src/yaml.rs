//! YAML text to a tree that knows where each part was written.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use crate::SourceFile;
use crate::diagnostic::{Outcome, Position, Problems};
use crate::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, DOCUMENT_NODES_MAX};
use crate::template::Step;

/// A part of a document.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub data: Data,
}

/// A value of a document.
#[derive(Debug, Clone)]
pub enum Data {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// Where it is written.
    pub at: Position,
    /// The key itself.
    pub name: String,
}

impl Node {
    /// With its article, for messages.
    pub fn described(&self) -> &'static str {
        match &self.data {
            Data::Null => "empty",
            Data::Bool(_) => "a boolean",
            Data::Number(number) if number.is_f64() => "a decimal number",
            Data::Number(_) => "an integer",
            Data::Text(_) => "a text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// The value of a scalar, for messages.
    pub fn shown(&self) -> Option<String> {
        match &self.data {
            Data::Bool(value) => Some(value.to_string()),
            Data::Number(number) => Some(number.to_string()),
            Data::Text(text) => Some(text.clone()),
            Data::Null | Data::List(_) | Data::Map(_) => None,
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => Value::Array(items.iter().map(Node::json).collect()),
            Data::Map(fields) => {
                Value::Object(fields.iter().map(|(key, node)| (key.name.clone(), node.json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The part that the steps lead to, as far as they can be followed.
    pub(crate) fn follow(&self, steps: &[Step]) -> &Node {
        let mut at = self;
        for step in steps {
            let next = match (&at.data, step) {
                (Data::List(items), Step::Item(item)) => items.get(*item),
                (Data::Map(fields), Step::Field(name)) => {
                    fields.iter().rev().find(|(key, _)| key.name == *name).map(|(_, node)| node)
                }
                _ => None,
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }
}

/// Any YAML value.
struct Any(Data);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

struct AnyVisitor;

fn position(location: serde_saphyr::Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

fn node(spanned: Spanned<Any>) -> Node {
    Node { at: position(spanned.referenced), data: spanned.value.0 }
}

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, a number, a boolean, a list or a mapping")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Data, E> {
        Number::from_f64(value).map(Data::Number).ok_or_else(|| E::custom("the number is not finite"))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Data, E> {
        Err(E::custom(format!("the number {value} does not fit into 64 bits; put it in quotes to make it a text")))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Data, E> {
        Err(E::custom(format!("the number {value} does not fit into 64 bits; put it in quotes to make it a text")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Any>>()? {
            items.push(node(item));
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = access.next_entry::<Spanned<String>, Spanned<Any>>()? {
            fields.push((Key { at: position(key.referenced), name: key.value }, node(value)));
        }
        Ok(Data::Map(fields))
    }
}

fn options(duplicate_keys: serde_saphyr::DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Only `true` and `false`: `no` and `on` are words.
        strict_booleans: true,
        duplicate_keys: duplicate_keys,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DOCUMENT_DEPTH_MAX,
            flow_nesting_limit: DOCUMENT_DEPTH_MAX,
            max_nodes: DOCUMENT_NODES_MAX,
            max_events: 3 * DOCUMENT_NODES_MAX,
            max_total_scalar_bytes: 4 * DOCUMENT_BYTES_MAX,
            // The second one is reported as such, and not as a limit.
            max_documents: 2,
        },
    }
}

/// Parses a document whose top is a mapping, for whoever reads other keys of it than we do.
pub fn parse_document(file: &SourceFile) -> Outcome<Node> {
    let mut problems = Problems::new(&file.path);
    let root = parse(file, &mut problems);
    problems.outcome(root)
}

/// Parses a document whose top is a mapping.
pub(crate) fn parse(file: &SourceFile, problems: &mut Problems) -> Option<Node> {
    let size = file.text.len();
    if size > DOCUMENT_BYTES_MAX {
        problems
            .error(
                Position::default(),
                "PLAN_DOCUMENT_TOO_LARGE",
                format!("the file has {size} bytes but at most {DOCUMENT_BYTES_MAX} are allowed"),
            )
            .help("split it into several workflows, and keep data out of it");
        return None;
    }
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    // Duplicates are found below, all of them and with both places.
    let parsed =
        serde_saphyr::from_str_with_options::<Spanned<Any>>(text, options(serde_saphyr::DuplicateKeyPolicy::LastWins));
    let root = match parsed {
        Ok(root) => node(root),
        Err(error) => {
            syntax_error(text, &error, problems);
            return None;
        }
    };
    match &root.data {
        Data::Null => {
            problems.error(Position { line: 1, column: 1 }, "PLAN_EMPTY_DOCUMENT", "the document is empty");
            return None;
        }
        Data::Map(_) => {}
        _ => {
            problems
                .error(
                    root.at,
                    "PLAN_NOT_A_MAPPING",
                    format!("the document must be a mapping but is {}", root.described()),
                )
                .help("write `key: value` lines, for example `id: my-workflow`");
            return None;
        }
    }
    if !duplicates(&root, problems) {
        // The parser merges keys that are numbers before they can be seen, so it is asked as well.
        let strict = options(serde_saphyr::DuplicateKeyPolicy::Error);
        if let Err(error) = serde_saphyr::from_str_with_options::<Spanned<Any>>(text, strict) {
            let at = error.location().map(position).unwrap_or_default();
            problems.error(at, "PLAN_DUPLICATE_KEY", "this key is in the mapping twice").help("remove one of the two");
        }
    }
    Some(root)
}

/// Reports keys that a mapping has twice; answers whether there were any.
fn duplicates(node: &Node, problems: &mut Problems) -> bool {
    let mut found = false;
    match &node.data {
        Data::List(items) => {
            for item in items {
                found |= duplicates(item, problems);
            }
        }
        Data::Map(fields) => {
            let mut seen = std::collections::BTreeMap::new();
            for (key, field) in fields {
                if let Some(first) = seen.insert(key.name.as_str(), key.at) {
                    found = true;
                    problems
                        .error(
                            key.at,
                            "PLAN_DUPLICATE_KEY",
                            format!(
                                "the key `{}` is already at line {}, column {}",
                                key.name, first.line, first.column
                            ),
                        )
                        .value(&key.name)
                        .help("remove one of the two");
                }
                found |= duplicates(field, problems);
            }
        }
        _ => {}
    }
    found
}

/// The parser's own words, and help for what goes wrong most often.
fn syntax_error(text: &str, error: &serde_saphyr::Error, problems: &mut Problems) {
    use serde_saphyr::Error;
    let at = error.location().map(position).unwrap_or_default();
    let error = error.without_snippet();
    let shown = error.to_string();
    let reason = shown.split(" at line ").next().unwrap_or_default().to_owned();
    let line =
        usize::try_from(at.line).ok().and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    match error {
        _ if shown.contains("budget breached") || shown.contains("limit exceeded") => {
            let (code, message, help) = budget_error(&shown);
            problems.error(at, code, message).help(help);
        }
        Error::MultipleDocuments { .. } => {
            problems
                .error(at, "PLAN_SEVERAL_DOCUMENTS", "the file has a second document")
                .help("keep one document in a file: remove the line `---` and what follows it");
        }
        _ if reason.contains("recursive references") => {
            problems
                .error(
                    at,
                    "PLAN_NESTED_IN_ITSELF",
                    "this alias stands inside of what it repeats, so that it would contain itself",
                )
                .help("let the alias point to another part, or go to the task with `on_success.next`");
        }
        _ if line.contains("{{") => {
            problems
                .error(at, "PLAN_YAML_SYNTAX", format!("not valid YAML: {reason}"))
                .help("a text with a template must be in quotes: `key: \"{{ .input.name }}\"`");
        }
        _ => {
            let help = if reason.contains("tab") { Some("indent with spaces".to_owned()) } else { None };
            problems.error(at, "PLAN_YAML_SYNTAX", format!("not valid YAML: {reason}")).maybe_help(help);
        }
    }
}

fn budget_error(shown: &str) -> (&'static str, String, &'static str) {
    if shown.contains("recursion limit")
        || shown.contains("Depth")
        || shown.contains("Nesting")
        || shown.contains("nesting")
    {
        let message = format!("the document is nested more than {DOCUMENT_DEPTH_MAX} levels deep");
        return ("PLAN_DOCUMENT_TOO_DEEP", message, "make it flatter");
    }
    (
        "PLAN_DOCUMENT_TOO_LARGE",
        format!(
            "the document has more than {DOCUMENT_NODES_MAX} parts, or too many aliases, when its aliases are expanded"
        ),
        "repeat less with aliases, and split the file into several workflows",
    )
}
