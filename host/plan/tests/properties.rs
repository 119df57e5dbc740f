//! Whatever the text, there is an answer; and what compiled survives a round trip through JSON.

use compozy_plan::condition::Condition;
use compozy_plan::plan::Plan;
use compozy_plan::scope::Scope;
use compozy_plan::template::Template;
use compozy_plan::{Project, Severity, SourceFile, compile_workflow, parse_project};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Pieces that documents are made of, in any order.
fn pieces(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

#[rustfmt::skip]
const YAML: &[&str] = &[
    "id: w\n", "tasks:\n", "  - id: a\n", "    tool: t\n", "    type: router\n", "    type: collection\n", "    routes: {x: a}\n",
    "tools: [{id: t}]\n", "    with: {a: \"{{ .input.x }}\"}\n", "    condition: input.x\n", "    items: [1]\n",
    "    task: {id: b, tool: t}\n", "    task: *x\n", "&x ", "*x", "- ", ": ", "\n", "  ", "{", "}", "[", "]", "\"", "'", "|\n",
    "<<: *x\n", "---\n", "\t", "#", "!!int ", "~", "1e9",
];
#[rustfmt::skip]
const TEMPLATE: &[&str] = &[
    "{{", "}}", "{{- ", " -}}", " .input", ".x", " $y", " := ", " = ", "|", "(", ")", " if", " else", " end", " range", " with",
    " upper", " list", " print", "\"a\"", "`b`", " 1", " -2.5", ",", "/*", "*/", "text", "\\", "é", " default",
];
#[rustfmt::skip]
const CEL: &[&str] = &[
    "input", ".x", "[0]", "(", ")", "[", "]", "{", "}", "'a'", "\"b\"", " + ", " - ", " && ", " || ", " == ", "!", "?", ":", ",",
    "1", "2.5", " in ", ".all(x, ", ".map(x, ", "has(", "size(", "r'", "\\", "//", "null", "é",
];

fn file(text: String) -> SourceFile {
    SourceFile { path: "f.yaml".to_owned(), text }
}

fn data() -> Value {
    json!({"x": [1, "a", {"x": null}]})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_gets_an_answer(text in prop_oneof![".{0,200}", pieces(YAML, 40)]) {
        let project = parse_project(&file(text.clone()));
        let failed = project.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        prop_assert_eq!(project.value.is_none(), failed);
        if let Some(plan) = compile_workflow(&file(text), &Project::default(), None).value {
            let json = plan.to_json();
            prop_assert_eq!(Plan::from_json(&json).expect("reads back").to_json(), json);
        }
    }

    #[test]
    fn any_template_gets_an_answer(text in prop_oneof![".{0,80}", pieces(TEMPLATE, 24)]) {
        if let Ok(template) = Template::compile(&Value::from(text)) {
            let data = data();
            let mut scope = Scope::new();
            scope.insert("input", &data);
            let first = template.render(&scope);
            prop_assert_eq!(&first, &template.render(&scope));
            let json = serde_json::to_value(&template).expect("JSON");
            let again: Template = serde_json::from_value(json).expect("compiles again");
            prop_assert_eq!(first, again.render(&scope));
        }
    }

    #[test]
    fn any_condition_gets_an_answer(text in prop_oneof![".{0,80}", pieces(CEL, 24)]) {
        if let Ok(condition) = Condition::compile(&text) {
            let data = data();
            let mut scope = Scope::new();
            scope.insert("input", &data);
            let first = condition.evaluate(&scope);
            let json = serde_json::to_value(&condition).expect("JSON");
            let again: Condition = serde_json::from_value(json).expect("compiles again");
            prop_assert_eq!(first, again.evaluate(&scope));
        }
    }
}
