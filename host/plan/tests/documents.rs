//! Every file under `fixtures` against the text beside it: the problems as a person sees them, or the plan.
//! `UPDATE_FIXTURES=1 cargo test -p compozy-plan --test documents` writes the texts anew; read the difference.

use std::fmt::Write as _;
use std::path::Path;

use compozy_plan::plan::Plan;
use compozy_plan::{Catalog, CatalogAction, Project, SourceFile, compile_workflow, parse_project};

fn catalog() -> Catalog {
    let action = |name: &&str| CatalogAction { name: (*name).to_owned(), input_schema: None };
    let plugin = |name: &str, actions: &[&str]| (name.to_owned(), actions.iter().map(action).collect());
    Catalog {
        plugins: [
            plugin("weather", &["current", "activities", "analyse", "clothing"]),
            plugin("files", &["write"]),
            plugin("sqlite", &[]),
        ]
        .into(),
    }
}

fn walk(folder: &str, render: impl Fn(&SourceFile) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let entries = std::fs::read_dir(&folder).expect("folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "yaml"));
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures in {}", folder.display());
    let mut wrong = String::new();
    for path in paths {
        let name = path.file_name().expect("file").to_string_lossy().into_owned();
        let file = SourceFile { path: name.clone(), text: std::fs::read_to_string(&path).expect("fixture") };
        let found = render(&file);
        let beside = path.with_extension("txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&beside, &found).expect("write");
        } else if found != std::fs::read_to_string(&beside).unwrap_or_default() {
            write!(wrong, "--- {name} now gives:\n{found}").expect("text");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn problems(diagnostics: &[compozy_plan::Diagnostic]) -> String {
    diagnostics.iter().fold(String::new(), |text, diagnostic| text + &diagnostic.to_string() + "\n")
}

#[test]
fn invalid_workflows_tell_all_their_problems() {
    walk("invalid", |file| {
        let outcome = compile_workflow(file, &Project::default(), Some(&catalog()));
        assert!(outcome.value.is_none(), "{} compiled", file.path);
        problems(&outcome.diagnostics)
    });
}

#[test]
fn valid_workflows_become_plans() {
    walk("valid", |file| {
        let outcome = compile_workflow(file, &Project::default(), Some(&catalog()));
        let plan = outcome.value.unwrap_or_else(|| panic!("{}", problems(&outcome.diagnostics)));
        let json = plan.to_json();
        let again = Plan::from_json(&json).expect("the plan is read back");
        assert_eq!(again.to_json(), json, "nothing is lost");
        assert_eq!(again.digest(), plan.digest());
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        format!("{}{value:#}\n", problems(&outcome.diagnostics))
    });
}

#[test]
fn projects() {
    walk("project", |file| {
        let outcome = parse_project(file);
        let shown = outcome.value.map(|project| {
            let plugins = serde_json::to_value(&project.plugins).expect("JSON");
            format!("{:?}\n{:?}\n{plugins:#}\n", project.info, project.workflows)
        });
        problems(&outcome.diagnostics) + &shown.unwrap_or_default()
    });
}

fn workflow(text: String) -> compozy_plan::Outcome<Plan> {
    compile_workflow(&SourceFile { path: "w.yaml".to_owned(), text }, &Project::default(), None)
}

#[test]
fn limits_fire() {
    let large = workflow(format!("id: w\n# {}\n", "x".repeat(10 * 1024 * 1024)));
    assert_eq!(large.diagnostics[0].code, "PLAN_DOCUMENT_TOO_LARGE");

    let mut many = String::from("id: w\ntools: [{id: t}]\ntasks:\n");
    for at in 0..5_001 {
        writeln!(many, "- {{id: t{at}, tool: t}}").expect("text");
    }
    let many = workflow(many);
    assert_eq!(many.diagnostics.len(), 1, "{}", problems(&many.diagnostics));
    assert_eq!(many.diagnostics[0].code, "PLAN_TOO_MANY_TASKS");

    let mut wrong = String::from("id: w\ntasks: []\n");
    for at in 0..150 {
        writeln!(wrong, "unknown{at}: 1").expect("text");
    }
    let wrong = workflow(wrong);
    assert_eq!(wrong.diagnostics.len(), compozy_plan::limits::DIAGNOSTICS_MAX + 1);
    let last = wrong.diagnostics.last().expect("last");
    assert!(last.message.contains("51 more problems"), "{}", problems(&wrong.diagnostics));
}

#[test]
fn the_project_gives_tools_schemas_env_and_policy() {
    let file = SourceFile {
        path: "compozy.yaml".to_owned(),
        text: "name: p\nenv: {A: x, B: y}\nconfig: {start_to_close_timeout: 7s, retry_policy: {maximum_attempts: 9}}\n\
               tools: [{id: t, action: go}]\nschemas: [{id: s, type: string}]\n"
            .to_owned(),
    };
    let project = parse_project(&file).value.expect("project");
    let text = "id: w\nconfig: {input: s, env: {B: z}, start_to_close_timeout: 3s}\ntasks: [{id: a, tool: t}]\n";
    let file = SourceFile { path: "w.yaml".to_owned(), text: text.to_owned() };
    let plan = compile_workflow(&file, &project, None).value.expect("plan");
    assert_eq!(plan.env["A"], "x");
    assert_eq!(plan.env["B"], "z");
    assert_eq!(plan.tasks[0].policy.start_to_close_ms, 3_000);
    assert_eq!(plan.tasks[0].policy.retry.maximum_attempts, 9);
    assert!(plan.input.expect("schema").validate(&serde_json::json!(3)).is_err());
}

#[test]
fn a_plan_of_another_format_is_refused() {
    let plan = workflow("id: w\ntools: [{id: t}]\ntasks: [{id: a, tool: t}]\n".to_owned()).value.expect("plan");
    let json = plan.to_json().replace("\"format\":2", "\"format\":1");
    assert!(Plan::from_json(&json).expect_err("refused").to_string().contains("format 1"));
}
