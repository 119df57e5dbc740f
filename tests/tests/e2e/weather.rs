//! The example of the first page of the README, both ways.

use std::fs;

use anyhow::Result;
use compozy_tests::host::{Host, run};
use compozy_tests::project::Sandbox;
use serde_json::{Value, json};

const INPUT: &str = r#"{"city":"Lisbon","month":7}"#;

/// What must hold for the example's answer, whoever ran it.
fn check(document: &Value) {
    assert_eq!(document["status"], "SUCCESS", "{document:#}");
    let output = &document["output"];
    assert_eq!(output["city"], "Lisbon", "{output:#}");
    for part in ["activities", "clothes", "saved"] {
        assert!(!["null", "\"\"", "[]"].contains(&output[part].to_string().as_str()), "{part}: {output:#}");
    }
    let tasks = document["tasks"].as_array().expect("a list");
    let top = |task: &&Value| task["parent"].is_null();
    let ids: Vec<_> = tasks.iter().filter(top).filter_map(|task| task["id"].as_str()).collect();
    // The ninth, `no_results`, is the way that the router does not take.
    let expected = [
        "weather",
        "activities",
        "activity_analysis",
        "clothing",
        "clothing_validation",
        "aggr",
        "clothing_check",
        "save_results",
    ];
    assert_eq!(ids, expected);
    for kind in ["basic", "router", "collection", "aggregate", "composite"] {
        assert!(tasks.iter().any(|task| task["type"] == kind), "no {kind} task: {document:#}");
    }
    for task in tasks {
        assert_eq!(task["status"], "SUCCESS", "{task:#}");
        assert_eq!(!task["plugin"].is_null(), task["type"] == "basic", "{task:#}");
    }
    for collection in ["activity_analysis", "clothing_validation"] {
        let children = tasks.iter().filter(|task| task["parent"] == collection).count();
        assert!(children > 0, "{collection} has no children: {document:#}");
    }
}

/// The two files that the run saves.
fn check_results(sandbox: &Sandbox) -> Result<()> {
    let results = sandbox.project().join("results");
    let text = fs::read_to_string(results.join("lisbon.md"))?;
    assert!(text.starts_with("# Lisbon, Portugal"), "{text}");
    let data: Value = serde_json::from_str(&fs::read_to_string(results.join("lisbon.json"))?)?;
    assert_eq!(data["city"], "Lisbon", "{data:#}");
    Ok(())
}

#[test]
fn the_example_runs_in_the_foreground() -> Result<()> {
    let sandbox = Sandbox::with_example("weather")?;
    let args = ["run", "project", "--input", INPUT, "--data-dir", "data"];
    let machine = run(sandbox.root(), &[&args[..], &["--json"]].concat())?;
    assert_eq!(machine.code, Some(0), "{machine:?}");
    check(&machine.json()?);
    check_results(&sandbox)?;
    let person = run(sandbox.root(), &args)?;
    assert_eq!(person.code, Some(0), "{person:?}");
    assert!(person.stdout.contains("city:") && person.stdout.contains("Lisbon"), "{}", person.stdout);
    assert!(!person.stdout.contains(['{', '[']), "a person gets no JSON: {}", person.stdout);
    Ok(())
}

#[test]
fn the_example_runs_over_http() -> Result<()> {
    let sandbox = Sandbox::with_example("weather")?;
    let host = Host::start(&sandbox)?;
    check(&host.run("weather", &serde_json::from_str(INPUT)?)?);
    check_results(&sandbox)?;
    let refused = host.try_start("weather", &json!({ "city": 7 }))?;
    assert_eq!((refused.status, &refused.body["violations"][0]["path"]), (400, &json!("/input/city")), "{refused:?}");
    Ok(())
}

#[test]
fn an_unknown_city_fails_with_its_code_and_a_hint() -> Result<()> {
    let sandbox = Sandbox::with_example("weather")?;
    let args = ["run", "project", "--input", r#"{"city":"Lisbn"}"#, "--data-dir", "data", "--json"];
    let outcome = run(sandbox.root(), &args)?;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let document = outcome.json()?;
    assert_eq!(document["failure"]["code"], "CITY_UNKNOWN", "{document:#}");
    assert!(document["failure"]["message"].as_str().is_some_and(|text| text.contains("Lisbon")), "{document:#}");
    assert_eq!(document["tasks"][0]["attempts"], 1, "trying again cannot help: {document:#}");
    Ok(())
}

#[test]
fn the_example_is_valid() -> Result<()> {
    let sandbox = Sandbox::with_example("weather")?;
    let outcome = run(sandbox.root(), &["validate", "project", "--data-dir", "data", "--json"])?;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let document = outcome.json()?;
    assert_eq!((&document["valid"], &document["diagnostics"]), (&json!(true), &json!([])), "{document:#}");
    Ok(())
}
