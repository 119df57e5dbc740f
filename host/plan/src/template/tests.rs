//! Templates: what they give, and what they say when they cannot.

use serde_json::{Value, json};

use super::{Template, TemplateErrorKind};
use crate::scope::{Node, Scope};

fn data() -> Value {
    json!({
        "name": "Lisbon", "n": 3, "f": 2.5, "whole": 3.0, "yes": true, "none": null, "empty": "", "html": "<a href=\"x\">",
        "list": [3, 1, 2, 1], "words": ["b", "a"], "evil": "{{ .input.name }}", "json": "{\"a\":[1]}",
        "people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 25}], "map": {"b": 2, "a": 1}
    })
}

fn render(source: &Value) -> Result<Value, super::TemplateError> {
    let data = data();
    let output = json!({"temperature": 21.5});
    let mut outer = Scope::new();
    outer.insert("input", &data);
    let mut scope = outer.child();
    scope.insert("tasks", Node::map([("get-weather", Node::map([("output", Node::Value(&output))]))]));
    Template::compile(source)?.render(&scope)
}

#[test]
fn values() {
    let table = include_str!("../../tests/fixtures/templates.txt");
    let mut checked = 0;
    for (at, line) in table.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let (source, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("line {}: no arrow", at + 1));
        match (render(&Value::from(source)), expected.strip_prefix("! ")) {
            (Ok(found), None) => {
                let expected: Value =
                    serde_json::from_str(expected).unwrap_or_else(|error| panic!("line {}: {error}", at + 1));
                assert_eq!(found, expected, "line {}: {line}", at + 1);
            }
            (Err(error), Some(expected)) => {
                let found = format!("{}: {error}", error.kind.code());
                assert!(found.contains(expected), "line {}: {line}\nfound: {found}", at + 1);
            }
            (found, _) => panic!("line {}: {line}\nfound: {found:?}", at + 1),
        }
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn trees_keep_their_shape_and_their_order() {
    let source = json!({"z": "{{ .input.n }}", "a": ["x", "{{ .input.name }}!", 7], "plain": {"k": null}});
    assert_eq!(render(&source).expect("renders").to_string(), r#"{"z":3,"a":["x","Lisbon!",7],"plain":{"k":null}}"#);
    let error = render(&json!({"a": {"b": [1, "{{ .input.nme }}"]}})).expect_err("missing");
    assert!(error.to_string().starts_with("in `a.b[1]`: "), "{error}");
    assert!(render(&json!({"{{ .x }}": 1})).expect_err("key").to_string().contains("key cannot be a template"));
}

#[test]
fn data_is_never_a_template() {
    assert_eq!(render(&json!("{{ .input.evil }}")).expect("renders"), json!("{{ .input.name }}"));
    assert_eq!(render(&json!("x {{ .input.json }}")).expect("renders"), json!("x {\"a\":[1]}"));
    assert_eq!(render(&json!("{{ .input.json }}")).expect("renders"), json!("{\"a\":[1]}"));
}

#[test]
fn serialises_as_its_source_and_compiles_again() {
    let source = json!({"a": "{{ .input.n }}", "b": [1]});
    let template = Template::compile(&source).expect("compiles");
    assert_eq!(serde_json::to_value(&template).expect("JSON"), source);
    assert_eq!(serde_json::from_value::<Template>(source).expect("back"), template);
    assert!(serde_json::from_value::<Template>(json!("{{ nope")).is_err());
}

#[test]
fn references_name_what_is_read() {
    let source = json!([
        "{{ .tasks.a.output }}{{ with .input.x }}{{ .y }}{{ $.env.Z }}{{ end }}",
        "{{ index .tasks \"b-c\" 0 }}"
    ]);
    let template = Template::compile(&source).expect("compiles");
    let paths: Vec<String> = template.references().iter().map(|reference| reference.path.join(".")).collect();
    assert_eq!(paths, ["tasks.a.output", "input.x", "env.Z", "tasks", "tasks.b-c"]);
}

#[test]
fn hostile_templates_meet_a_limit() {
    let doubled = |start: &str, step: &str| format!("{{{{ $x := {start} }}}}{}", step.repeat(60));
    let cases = [
        ("steps", "{{ range until 10000 }}{{ range until 10000 }}{{ end }}{{ end }}".to_owned()),
        ("text growth", doubled("\"aaaaaaaa\"", "{{ $x = print $x $x }}")),
        ("list growth", doubled("list 1", "{{ $x = list $x $x }}")),
        ("replace", "{{ $a := repeat 100000 \"a\" }}{{ replace \"a\" $a $a }}".to_owned()),
        ("repeat", "{{ repeat 9000000000 \"abc\" }}".to_owned()),
        ("join", "{{ join (repeat 100000 \"a\") (until 10000) }}".to_owned()),
        ("output", "{{ repeat 500000 \"abcdefgh\" }}{{ repeat 500000 \"abcdefgh\" }}".to_string()),
        ("value depth", format!("{{{{ $x := list }}}}{}{{{{ $x }}}}", "{{ $x = list $x }}".repeat(150))),
        ("source", format!("{{{{ 1 }}}}{}", "x".repeat(70_000))),
        ("parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000))),
        ("pipes", format!("{{{{ 1 {}}}}}", "| toString ".repeat(3_000))),
        ("blocks", format!("{}{}", "{{ if true }}".repeat(1_000), "{{ end }}".repeat(1_000))),
        ("else if", format!("{{{{ if false }}}}{}{{{{ end }}}}", "{{ else if false }}".repeat(1_000))),
    ];
    for (name, source) in cases {
        let error = render(&Value::from(source)).expect_err(name);
        assert_eq!(error.kind, TemplateErrorKind::Limit, "{name}: {error}");
    }
    let mut deep = json!("{{ .input.n }}");
    for _ in 0..120 {
        deep = json!([deep]);
    }
    assert_eq!(Template::compile(&deep).expect_err("deep").kind, TemplateErrorKind::Limit);
}

#[test]
fn the_refused_functions_say_why() {
    for name in ["now", "uuidv4", "env", "tpl", "getHostByName"] {
        let error = Template::compile(&Value::from(format!("{{{{ {name} }}}}"))).expect_err(name);
        assert_eq!(error.kind, TemplateErrorKind::UnknownFunction);
        assert!(error.to_string().contains("is not available: "), "{error}");
    }
}
