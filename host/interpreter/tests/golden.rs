//! Journals of every behaviour, kept for ever: recorded events must lead where they led when they were recorded.
//!
//! `golden/behaviour-N.jsonl` has one line per run: its plan, every event with its commands, and the state at the end.
//! A file is written once, by `UPDATE_GOLDEN=1 cargo test -p compozy-interpreter --test golden`, when its behaviour is
//! new. One that differs later means that [`compozy_interpreter::BEHAVIOUR_VERSION`] must grow.

#[path = "support/script.rs"]
mod script;
mod support;
#[path = "support/workflow.rs"]
mod workflow;

use std::path::{Path, PathBuf};

use compozy_interpreter::{BEHAVIOUR_VERSION, Command, Event, NoBlobs, RunState, advance, behaviour_supported};
use compozy_plan::plan::Plan;
use serde::{Deserialize, Serialize};
use support::Run;

/// A run that leads through thousands of tasks is no better a witness than a small one.
const LINE_BYTES_MAX: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Golden {
    name: String,
    plan: Plan,
    steps: Vec<(Event, Vec<Command>)>,
    state: RunState,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The cases as journals.
fn record() -> String {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder("cases")).expect("cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut lines = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a case");
        let (_, rest) = text.split_once("--- workflow\n").expect("a workflow");
        let (yaml, rest) = rest.split_once("--- script\n").expect("a script");
        let (script, _) = rest.split_once("--- expected").unwrap_or((rest, ""));
        let plan = workflow::compile(yaml).expect("a plan");
        let mut run = Run::new(&plan);
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            script::act(&mut run, line);
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let golden = Golden { name, plan: plan.clone(), steps: run.history.clone(), state: run.state.clone() };
        let line = serde_json::to_string(&golden).expect("JSON");
        if line.len() <= LINE_BYTES_MAX {
            lines += &line;
            lines.push('\n');
        }
    }
    lines
}

#[test]
fn recorded_events_lead_where_they_led() {
    let path = folder("golden").join(format!("behaviour-{BEHAVIOUR_VERSION}.jsonl"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        assert!(!path.exists(), "{} is kept for ever; raise BEHAVIOUR_VERSION", path.display());
        std::fs::write(&path, record()).expect("a journal that can be written");
    }
    let mut runs = 0;
    for entry in std::fs::read_dir(folder("golden")).expect("golden journals") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file of journals");
        for line in text.lines() {
            let golden: Golden = serde_json::from_str(line).expect("a journal");
            let Golden { name, plan, steps, state: expected } = golden;
            assert!(behaviour_supported(expected.behaviour), "{name}: behaviour {}", expected.behaviour);
            let mut state = RunState::new();
            for (number, (event, commands)) in steps.iter().enumerate() {
                let found = advance(&plan, &mut state, event, &NoBlobs).expect("nothing is kept apart");
                assert_eq!(&found, commands, "{name}: event {}: {event:?}", number + 1);
            }
            assert_eq!(state, expected, "{name}");
            runs += 1;
        }
    }
    assert!(runs >= 70, "only {runs} journals");
}
