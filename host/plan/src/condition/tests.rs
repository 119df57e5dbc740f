//! Conditions: their values, compared with the parser crate's own evaluator, and what they say when they have none.

use serde_json::{Value, json};

use super::{Condition, ConditionErrorKind};
use crate::scope::{Node, Scope};

fn data() -> Value {
    json!({
        "n": 3, "f": 2.5, "whole": 3.0, "name": "Lisbon", "yes": true, "none": null, "list": [3, 1, 2], "empty": [],
        "people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 25}], "map": {"a": 1, "b-c": 2}
    })
}

fn evaluate(source: &str) -> Result<Value, super::ConditionError> {
    let data = data();
    let mut scope = Scope::new();
    scope.insert("input", &data);
    scope.insert("tasks", Node::map([("get-weather", Node::map([("output", Node::Value(&data))]))]));
    Condition::compile(source)?.evaluate(&scope)
}

/// Both evaluators must agree on these.
const SAME: &[&str] = &[
    "1 + 2 * 3 - 4 / 2 % 3",
    "7 / 2",
    "-7 % 3",
    "7.0 / 2.0",
    "1 == 1.0",
    "1u < 2",
    "\"a\" + \"b\" == 'ab'",
    "[1, 2] + [3]",
    "{\"a\": 1}.a",
    "{\"a\": 1}[\"a\"]",
    "input.n == 3",
    "input.whole == 3",
    "input.n > 2.5",
    "input.name.size()",
    "size(input.list)",
    "size('äö')",
    "input.list[0]",
    "2 in input.list",
    "'a' in input.map",
    "9 in [1, 2]",
    "has(input.n)",
    "has(input.nope)",
    "has(input.none)",
    "input.none == null",
    "!input.yes",
    "input.yes ? 'y' : 'n'",
    "false && input.nope",
    "input.nope || true",
    "input.list.all(x, x > 0)",
    "input.list.exists(x, x == 2)",
    "input.list.exists_one(x, x > 2)",
    "input.list.filter(x, x > 1)",
    "input.list.map(x, x * 2)",
    "input.list.map(x, x > 1, x * 2)",
    "input.people.filter(p, p.age > 26).map(p, p.name)",
    "input.people.exists(p, p.name.startsWith('B') && p.age < 30)",
    "[[1, 2], [3]].map(l, l.map(x, x + 1))",
    "input.empty.all(x, false)",
    "[1, 'a'].exists(x, x == 1 || x.nope)",
    "'abc'.contains('b')",
    "'abc'.endsWith('c')",
    "'abc123'.matches('^[a-z]+[0-9]+$')",
    "int('42') + int(2.9)",
    "double('2.5')",
    "string(3) + string(true)",
    "type(1) == int",
    "type('a') == string",
    "[1, 2] == [1.0, 2.0]",
    "{'a': [1]} == {'a': [1]}",
    "'b' > 'a'",
    "-(3)",
    "input.map['b-c']",
];

#[test]
fn the_answers_are_those_of_the_parser_crate() {
    // JSON is CEL, too; converted by serde, whole numbers would become unsigned.
    let data =
        cel::Program::compile(&data().to_string()).expect("compiles").execute(&cel::Context::default()).expect("data");
    for source in SAME {
        let found = evaluate(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        let program = cel::Program::compile(source).expect("compiles");
        let mut context = cel::Context::default();
        context.add_variable_from_value("input", data.clone());
        let other = program.execute(&context).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(found, other.json().expect("JSON"), "{source}");
    }
}

#[test]
fn where_json_differs_from_strict_cel() {
    for (source, expected) in [
        ("input.n + 0.5", json!(3.5)),
        ("input.n * input.f", json!(7.5)),
        ("tasks[\"get-weather\"].output.n == 3", json!(true)),
        ("type(input.map)", json!("map")),
        ("'Ab'.lowerAscii() + 'Ab'.upperAscii() + ' x '.trim()", json!("abABx")),
    ] {
        assert_eq!(evaluate(source).unwrap_or_else(|error| panic!("{source}: {error}")), expected, "{source}");
    }
}

#[test]
fn errors_say_what_to_do() {
    for (source, expected) in [
        ("", "the condition is empty"),
        ("{{ .input.n }}", "a condition is CEL and not a template"),
        ("input.n ==", "not a CEL expression: line 1, column 11"),
        ("input.nme == 1", "`input.nme` does not exist: `input` has no `nme`; did you mean `name`?"),
        ("inptu.n", "`inptu` does not exist; did you mean `input`?"),
        ("tasks.get.output", "a name with a hyphen is written `[\"get-weather\"]`"),
        ("input.name.first", "`input.name` is a text and has no `first`"),
        ("input.list[7]", "`input.list` has 3 items, counted from 0"),
        ("input.empty[0]", "`input.empty` has 0 items"),
        ("input.list['a']", "found by its position"),
        ("lenght(input.list)", "unknown function `lenght`; there are size"),
        ("input.name.contians('a')", "did you mean `contains`?"),
        ("now()", "conditions know no time"),
        ("size(1, 2)", "`size` takes 1 argument(s) and got 2"),
        ("contains('a', 'b')", "`contains` is called on a value"),
        ("input.list.all(x)", "`all` is used like this"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "does not fit into 64 bits"),
        ("1 + 'a'", "`+` cannot be used on an integer and a text"),
        ("1 < 'a'", "`<` cannot be used on"),
        ("!1", "what follows `!` must be true or false but is an integer"),
        ("1 && true", "both sides of `&&` must be true or false, and `(...)` is an integer"),
        ("1 ? 2 : 3", "what stands before `?` must be true or false"),
        ("1 in 2", "`in` needs a list or an object on its right"),
        ("input.n.all(x, true)", "need a list or an object but got an integer"),
        ("'a'.matches('(')", "is not a usable pattern"),
        ("int('x')", "`int` cannot read `x`"),
        ("{'a': 1, 'a': 2}", "the map has the key `a` twice"),
        ("Message{a: 1}", "write a map"),
    ] {
        let error = evaluate(source).expect_err(source).to_string();
        assert!(error.contains(expected), "{source}\nfound: {error}");
    }
    let scope = Scope::new();
    let error = Condition::compile("1 + 1").expect("compiles").is_true(&scope).expect_err("a number");
    assert!(error.to_string().contains("must be true or false but is an integer"), "{error}");
    assert!(Condition::compile("1 < 2").expect("compiles").is_true(&scope).expect("true"));
}

#[test]
fn hostile_conditions_meet_a_limit() {
    let doubling = format!("['aaaaaaaaaaaaaaaa']{}", ".map(s, s + s)".repeat(20));
    let mut nested = "x0".to_owned();
    for level in (0..20).rev() {
        nested = format!(
            "[[{0}, {0}]].map(x{level}, {nested})",
            if level == 0 { "1".to_owned() } else { format!("x{}", level - 1) }
        );
    }
    let long = "input.big.map(a, input.big.map(b, input.big.map(c, 1)))".to_owned();
    let cases = [
        ("bytes", format!("'{}' == ''", "x".repeat(9_000))),
        ("operators", format!("1{}", " + 1".repeat(400))),
        ("selects", format!("input{}", ".a".repeat(1_000))),
        ("parentheses", format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000))),
        ("not", format!("{}true", "!".repeat(3_000))),
        ("minus", format!("{}1", "-".repeat(3_000))),
        ("brackets", format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))),
        ("conditional", format!("{}1", "true ? 1 : ".repeat(500))),
        ("nesting", format!("1{}", " + 1".repeat(200))),
        ("cubic", long),
        ("pattern", "input.big.all(x, 'aaaaaaaaaaab'.matches('(a*)*b'))".to_owned()),
    ];
    let big = json!({"big": (0..3_000).collect::<Vec<_>>()});
    for (name, source) in &cases {
        let mut scope = Scope::new();
        scope.insert("input", &big);
        let result = Condition::compile(source).and_then(|condition| condition.evaluate(&scope));
        let error = result.expect_err(name);
        assert!(matches!(error.kind, ConditionErrorKind::Limit), "{name}: {error}");
    }
    // Growth through macros that bind what they doubled: an answer or a limit, but soon.
    for source in [&doubling, &nested, &format!("{nested} == {nested}")] {
        let scope = Scope::new();
        if let Err(error) = Condition::compile(source).and_then(|condition| condition.evaluate(&scope)) {
            assert_eq!(error.kind, ConditionErrorKind::Limit, "{error}");
        }
    }
}

#[test]
fn a_filter_over_many_items_is_within_the_limit() {
    let data = json!({"items": (0..5_000).collect::<Vec<_>>()});
    let mut scope = Scope::new();
    scope.insert("input", &data);
    let condition = Condition::compile("size(input.items.filter(x, x % 2 == 0)) == 2500").expect("compiles");
    assert!(condition.is_true(&scope).expect("within the limit"));
}

#[test]
fn references_and_source() {
    let condition = Condition::compile("tasks['a-b'].output.n > 1 && input.l.all(x, x.y > env.Z)").expect("compiles");
    let paths: Vec<String> = condition.references().iter().map(|path| path.join(".")).collect();
    assert_eq!(paths, ["tasks.a-b.output.n", "input.l", "env.Z"]);
    let json = serde_json::to_value(&condition).expect("JSON");
    assert_eq!(json, json!("tasks['a-b'].output.n > 1 && input.l.all(x, x.y > env.Z)"));
    assert_eq!(serde_json::from_value::<Condition>(json).expect("back"), condition);
}
