//! What a fixture says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};

/// The plugin whose tasks follow the script.
pub(crate) const SCRIPTED: &str = "test";
/// The id of a fixture's own workflow.
pub(crate) const MAIN: &str = "main";

/// One fixture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it shows, as a sentence.
    pub about: String,
    /// What it covers: names of the list in `tests/equivalence.rs`.
    pub covers: Vec<String>,
    /// The workflow, as in a workflow file; `id` is `main`, and the tool `tool` is there already.
    pub workflow: Value,
    /// Workflows that it may start, by id.
    #[serde(default)]
    pub workflows: IndexMap<String, Value>,
    /// Runs of those that are started before, by a name.
    #[serde(default)]
    pub peers: IndexMap<String, Peer>,
    /// The input. `{$text: N}` is a text of N bytes, `{$run: NAME}` the id of a peer.
    #[serde(default = "empty")]
    pub input: Value,
    /// How tasks behave, by key, each attempt in turn; the last one is for all that follow. The key of a later visit (`t#2`) is looked
    /// up first as it is, then as `t`. A task that is not named answers its input.
    #[serde(default)]
    pub tasks: IndexMap<String, Vec<Attempt>>,
    /// Built-in test plugins that the workflow calls beside the script.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// What people do to runs, one after the other.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What must come of it, beside being equal on all engines.
    pub expect: Expect,
}

/// A run that is started before the fixture's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its workflow.
    pub workflow: String,
    /// Its input.
    #[serde(default = "empty")]
    pub input: Value,
}

/// How one attempt behaves. With nothing but a time, it answers its input.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// How long it takes, in milliseconds.
    #[serde(default)]
    pub after_ms: u64,
    /// It shows that it is alive this often, in milliseconds, while it takes its time.
    pub heartbeat_every_ms: Option<u64>,
    /// What it answers. `{$text: N}` is a text of N bytes, `{$attempt: true}` the number of the attempt.
    pub answer: Option<Value>,
    /// It fails.
    pub fail: Option<Fail>,
    /// It never ends by itself, and says nothing.
    #[serde(default)]
    pub never: bool,
    /// It goes on until it is asked to end, and then does what the rest says.
    #[serde(default)]
    pub until_asked: bool,
    /// The executor panics.
    pub panic: Option<String>,
}

/// A failure of an attempt.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Its code.
    pub code: String,
    /// Its message.
    #[serde(default)]
    pub message: String,
    /// No other attempt can help.
    #[serde(default)]
    pub permanent: bool,
    /// Another attempt shall not begin before, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// More facts.
    #[serde(default)]
    pub details: Value,
}

/// Something that somebody does, or a point that must be reached.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// To which run: `main`, a peer, or `main>KEY` for the child that the task KEY started.
    #[serde(default = "main_run")]
    pub run: String,
    /// When. All of it must hold.
    #[serde(default)]
    pub when: When,
    /// Send a signal.
    pub signal: Option<Said>,
    /// Pause, with this reason.
    pub pause: Option<String>,
    /// Go on.
    #[serde(default)]
    pub resume: bool,
    /// Cancel.
    pub cancel: Option<Cancel>,
    /// Terminate, with this reason.
    pub terminate: Option<String>,
    /// Retry.
    #[serde(default)]
    pub retry: bool,
    /// Reset to the task of this key.
    pub reset: Option<String>,
    /// The code with which it is refused.
    pub refused: Option<String>,
}

/// When a step is due.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The run stands so.
    pub status: Option<String>,
    /// Tasks of the run stand so, by key.
    #[serde(default)]
    pub tasks: IndexMap<String, String>,
    /// So many attempts of a task have begun, by key, in all runs of the fixture.
    #[serde(default)]
    pub called: IndexMap<String, usize>,
    /// And then so many milliseconds have passed.
    #[serde(default)]
    pub after_ms: u64,
}

/// A signal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Its name.
    pub name: String,
    /// Its payload; `{$text: N}` is a text of N bytes.
    #[serde(default)]
    pub payload: Value,
    /// Its id; empty for one of its own.
    #[serde(default)]
    pub id: String,
}

/// A wish to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// For a person.
    pub reason: String,
    /// In milliseconds.
    #[serde(default)]
    pub grace_ms: u64,
}

/// What must come of a fixture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The start is refused with this code; then nothing else can be expected.
    pub refused: Option<String>,
    /// How the run ends.
    pub status: Option<String>,
    /// The code of its failure.
    pub code: Option<String>,
    /// Its output. `{$text: N}` is a text of N bytes.
    #[serde(default, deserialize_with = "present")]
    pub output: Option<Value>,
    /// How its tasks stand at the end, by key.
    #[serde(default)]
    pub tasks: IndexMap<String, String>,
    /// How other runs stand at the end, by name. One that is not named must end.
    #[serde(default)]
    pub runs: IndexMap<String, String>,
    /// How many attempts of a task were begun, by key, in all runs.
    #[serde(default)]
    pub calls: IndexMap<String, usize>,
}

fn empty() -> Value {
    json!({})
}

fn main_run() -> String {
    MAIN.to_owned()
}

/// `null` is a value, and not the absence of one.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Fixture {
    /// Reads a fixture.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut fixture: Self = serde_saphyr::from_str(&text).with_context(|| format!("{}", path.display()))?;
        fixture.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        fixture.check().with_context(|| format!("{}", path.display()))?;
        Ok(fixture)
    }

    fn check(&self) -> Result<()> {
        for step in &self.steps {
            ensure!(step.actions() <= 1, "a step does one thing: {step:?}");
            ensure!(step.refused.is_none() || step.actions() == 1, "nothing that could be refused: {step:?}");
        }
        for attempt in self.tasks.values().flatten() {
            let ends = [attempt.answer.is_some(), attempt.fail.is_some(), attempt.never, attempt.panic.is_some()];
            ensure!(ends.into_iter().filter(|end| *end).count() <= 1, "an attempt ends in one way: {attempt:?}");
        }
        ensure!(self.expect.refused.is_some() != self.expect.status.is_some(), "`expect` needs `status` or `refused`");
        Ok(())
    }

    /// All its workflows, by id.
    pub fn plans(&self) -> Result<BTreeMap<String, Arc<Plan>>> {
        let main = std::iter::once((MAIN, &self.workflow));
        let all = main.chain(self.workflows.iter().map(|(id, workflow)| (id.as_str(), workflow)));
        all.map(|(id, workflow)| Ok((id.to_owned(), Arc::new(compile(id, workflow)?)))).collect()
    }
}

impl Step {
    fn actions(&self) -> usize {
        let actions = [
            self.signal.is_some(),
            self.pause.is_some(),
            self.resume,
            self.cancel.is_some(),
            self.terminate.is_some(),
            self.retry,
            self.reset.is_some(),
        ];
        actions.into_iter().filter(|there| *there).count()
    }
}

fn compile(id: &str, workflow: &Value) -> Result<Plan> {
    let Value::Object(workflow) = workflow else { bail!("the workflow `{id}` is no mapping") };
    let mut workflow = workflow.clone();
    workflow.insert("id".to_owned(), id.into());
    workflow.entry("tools").or_insert_with(|| json!([{"id": "tool", "plugin": SCRIPTED}]));
    // JSON is YAML.
    let file = SourceFile { path: format!("{id}.yaml"), text: Value::Object(workflow).to_string() };
    let outcome = compile_workflow(&file, &Project::default(), None);
    let problems: Vec<String> = outcome.diagnostics.iter().map(|problem| format!("{problem:?}")).collect();
    outcome.value.with_context(|| format!("the workflow `{id}`: {}", problems.join("; ")))
}

/// The fixtures of this repository, by name.
pub fn all() -> Result<Vec<Fixture>> {
    let folder = folder();
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files.iter().map(|file| Fixture::read(file)).collect()
}

/// Where it is kept what came of the fixtures.
pub fn records() -> PathBuf {
    folder().join("records")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/equivalence")
}
