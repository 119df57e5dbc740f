//! Plays a fixture on an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use compozy_engine::EngineError;
use compozy_engine::port::{Control, Engine, Execution, ExecutionId, StartRequest, TaskExecutor};
use compozy_interpreter::{Signal, TaskKey};
use compozy_plan::plan::Plan;
use serde_json::Value;

use crate::bench::Bench;
use crate::fixture::{Fixture, MAIN, Step};
use crate::record::{self, Record, Run};
use crate::scripted::Scripted;
use crate::values::{Known, fill};

/// A fixture takes a second or two; one that hangs fails after this.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often something that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(15);

/// Plays a fixture on an engine of its own. `plugins` runs the tasks of real plugins.
pub async fn play(fixture: &Fixture, bench: &dyn Bench, plugins: Option<Arc<dyn TaskExecutor>>) -> Result<Record> {
    let scripted = Scripted::new(fixture.tasks.clone(), plugins);
    let plans = fixture.plans()?;
    let engine = bench.open(Arc::clone(&scripted) as Arc<dyn TaskExecutor>, plans.clone()).await?;
    let mut player = Player {
        fixture,
        engine: Arc::clone(&engine),
        scripted,
        plans,
        ids: BTreeMap::new(),
        said: Vec::new(),
        problems: Vec::new(),
        point: "the start".to_owned(),
    };
    let played = tokio::time::timeout(PATIENCE, player.all()).await;
    engine.stop(Duration::ZERO).await;
    match played {
        Ok(played) => played.with_context(|| format!("at {}", player.point)),
        Err(_) => bail!("nothing comes of {} within {} s", player.point, PATIENCE.as_secs()),
    }
}

struct Player<'f> {
    fixture: &'f Fixture,
    engine: Arc<dyn Engine>,
    scripted: Arc<Scripted>,
    plans: BTreeMap<String, Arc<Plan>>,
    /// Of runs, by name.
    ids: BTreeMap<String, String>,
    said: Vec<String>,
    problems: Vec<String>,
    /// Where it is, for messages.
    point: String,
}

impl Player<'_> {
    async fn all(&mut self) -> Result<Record> {
        for (name, peer) in &self.fixture.peers {
            let id = self.start(&peer.workflow, &peer.input).await?.map_err(|error| anyhow!("{name}: {error}"))?;
            self.ids.insert(name.clone(), id);
        }
        let started = self.start(MAIN, &self.fixture.input).await?;
        self.said.push(answered("start", started.as_ref().err()));
        let expected = self.fixture.expect.refused.as_deref();
        match started {
            Ok(id) => {
                self.ids.insert(MAIN.to_owned(), id);
                self.expect("the start", expected, None);
            }
            Err(error) => {
                self.expect("the start", expected, Some(error.code()));
                return Ok(self.record(&[]));
            }
        }
        for (step, number) in self.fixture.steps.iter().zip(1..) {
            self.point = format!("step {number}");
            self.step(step).await?;
        }
        let runs = self.ends().await?;
        self.judge(&runs);
        Ok(self.record(&runs))
    }

    async fn start(&self, workflow: &str, input: &Value) -> Result<Result<String, EngineError>> {
        let plan = self.plans.get(workflow).with_context(|| format!("there is no workflow `{workflow}`"))?;
        let input = fill(input, &Known { runs: Some(&self.ids), ..Known::default() })?;
        let request = StartRequest { plan: Arc::clone(plan), input, idempotency_key: None, priority: None };
        Ok(self.engine.start(request).await.map(|id| id.0))
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let id = self.id_of(&step.run).await?;
        self.wait_for(step, &id).await?;
        let Some(control) = self.control(step)? else { return Ok(()) };
        let result = self.engine.control(&id, control.clone()).await;
        let point = format!("{} {} to {}", self.point, control.name(), step.run);
        self.said.push(answered(&point, result.as_ref().err()));
        self.expect(&point, step.refused.as_deref(), result.as_ref().err().map(EngineError::code));
        Ok(())
    }

    /// The id of a run by its name; waits until there is one.
    async fn id_of(&mut self, name: &str) -> Result<ExecutionId> {
        if let Some(id) = self.ids.get(name) {
            return Ok(ExecutionId(id.clone()));
        }
        let Some((parent, task)) = name.rsplit_once('>') else { bail!("there is no run `{name}`") };
        let parent = Box::pin(self.id_of(parent)).await?;
        loop {
            if let Some(child) = self.execution(&parent).await?.children.get(task) {
                self.ids.insert(name.to_owned(), child.0.clone());
                return Ok(child.clone());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn execution(&self, id: &ExecutionId) -> Result<Execution> {
        self.engine.execution(id).await?.with_context(|| format!("the execution {id} is not known"))
    }

    async fn wait_for(&self, step: &Step, id: &ExecutionId) -> Result<()> {
        let when = &step.when;
        while when.called.iter().any(|(task, times)| self.scripted.count(task) < *times) {
            tokio::time::sleep(LOOK).await;
        }
        while when.status.is_some() || !when.tasks.is_empty() {
            let state = self.execution(id).await?.state;
            let stands = |(key, status): (&String, &String)| {
                state.tasks.get(&TaskKey(key.clone())).is_some_and(|task| task.status.name() == status)
            };
            if when.status.as_deref().is_none_or(|status| state.status.name() == status)
                && when.tasks.iter().all(stands)
            {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(Duration::from_millis(when.after_ms)).await;
        Ok(())
    }

    fn control(&self, step: &Step) -> Result<Option<Control>> {
        if let Some(said) = &step.signal {
            let payload = fill(&said.payload, &Known { runs: Some(&self.ids), ..Known::default() })?;
            let (name, id) = (said.name.clone(), said.id.clone());
            return Ok(Some(Control::Signal(Signal { name, payload, id, source: "fixture".to_owned() })));
        }
        let control = match (&step.pause, &step.cancel, &step.terminate, &step.reset) {
            (Some(reason), ..) => Control::Pause { reason: reason.clone() },
            (_, Some(cancel), ..) => Control::Cancel { reason: cancel.reason.clone(), grace_ms: cancel.grace_ms },
            (_, _, Some(reason), _) => Control::Terminate { reason: reason.clone() },
            (_, _, _, Some(task)) => Control::Reset { task: TaskKey(task.clone()) },
            _ if step.resume => Control::Resume,
            _ if step.retry => Control::Retry,
            _ => return Ok(None),
        };
        Ok(Some(control))
    }

    /// Waits until every run stands as it shall, and reads them: the fixture's own first, then the others by name.
    async fn ends(&mut self) -> Result<Vec<Run>> {
        let mut open: Vec<String> = self.ids.keys().filter(|name| *name != MAIN).rev().cloned().collect();
        open.push(MAIN.to_owned());
        let mut runs: Vec<Run> = Vec::new();
        while let Some(name) = open.pop() {
            if runs.iter().any(|run| run.name == name) {
                continue;
            }
            self.point = format!("the end of {name}");
            let id = ExecutionId(self.ids[&name].clone());
            let execution = self.end(&name, &id).await?;
            for (further, id) in started_by(&name, &execution) {
                self.ids.insert(further.clone(), id);
                open.push(further);
            }
            let journal = self.engine.journal(&id).await?;
            self.verify(&name, &id).await?;
            runs.push(Run { name, execution, journal });
        }
        runs.sort_by(|one, other| (one.name != MAIN, &one.name).cmp(&(other.name != MAIN, &other.name)));
        Ok(runs)
    }

    async fn end(&self, name: &str, id: &ExecutionId) -> Result<Execution> {
        let Some(expected) = self.fixture.expect.runs.get(name) else { return Ok(self.engine.wait(id).await?) };
        loop {
            let execution = self.execution(id).await?;
            if execution.state.status.name() == expected {
                return Ok(execution);
            }
            if execution.state.status.is_terminal() {
                bail!("{name} is {} and shall be {expected}", execution.state.status.name());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is recorded must lead to what is known.
    async fn verify(&mut self, name: &str, id: &ExecutionId) -> Result<()> {
        match self.engine.verify(id).await {
            Ok(None) | Err(EngineError::NotSupported { .. }) => {}
            Ok(Some(difference)) => self.problems.push(format!("{name} does not verify: {difference}")),
            Err(error) => bail!("{name} cannot be verified: {error}"),
        }
        Ok(())
    }

    fn expect(&mut self, what: &str, expected: Option<&str>, found: Option<&str>) {
        if expected != found {
            let shown =
                |code: Option<&str>| code.map_or("is accepted".to_owned(), |code| format!("is refused as {code}"));
            self.problems.push(format!("{what} {}, but the fixture expects that it {}", shown(found), shown(expected)));
        }
    }

    /// Compares with what the fixture expects.
    fn judge(&mut self, runs: &[Run]) {
        let expect = &self.fixture.expect;
        let state = &runs[0].execution.state;
        let mut check = |what: &str, expected: Option<String>, found: String| {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                self.problems.push(format!("{what} is {found}, but the fixture expects {expected}"));
            }
        };
        let code = state.failure.as_ref().map_or("none", |failure| failure.code.as_str());
        check("the status", expect.status.clone(), state.status.name().to_owned());
        check("the code of the failure", expect.code.clone(), code.to_owned());
        let known = Known { runs: Some(&self.ids), ..Known::default() };
        let output = expect.output.as_ref().map(|output| fill(output, &known).unwrap_or_default().to_string());
        check("the output", output, state.output.as_ref().map_or("nothing".to_owned(), Value::to_string));
        for (key, status) in &expect.tasks {
            let found = state.tasks.get(&TaskKey(key.clone())).map_or("not begun", |task| task.status.name());
            check(&format!("task {key}"), Some(status.clone()), found.to_owned());
        }
        for (task, times) in &expect.calls {
            check(
                &format!("the number of calls of {task}"),
                Some(times.to_string()),
                self.scripted.count(task).to_string(),
            );
        }
        for name in expect.runs.keys().filter(|name| !runs.iter().any(|run| run.name == **name)) {
            self.problems.push(format!("the fixture expects a run {name}, and there is none"));
        }
    }

    fn record(&mut self, runs: &[Run]) -> Record {
        let lines = record::write(&self.said, runs, &self.scripted.calls(), &self.plans, &self.ids);
        Record { lines, problems: std::mem::take(&mut self.problems) }
    }
}

/// The runs that tasks of a run started: as children, and by signals.
fn started_by(name: &str, execution: &Execution) -> Vec<(String, String)> {
    let children = execution.children.iter().map(|(task, id)| (format!("{name}>{task}"), id.0.clone()));
    let signals = execution.state.tasks.values().filter(|task| task.kind == "signal");
    let started = signals.filter_map(|task| task.output.as_ref()?["started"].as_array()).flatten();
    let triggered = started.filter_map(|started| {
        let (workflow, id) = (started["workflow_id"].as_str()?, started["exec_id"].as_str()?);
        Some((format!("{name}!{workflow}"), id.to_owned()))
    });
    children.chain(triggered).collect()
}

fn answered(what: &str, error: Option<&EngineError>) -> String {
    match error {
        None => format!("{what}: accepted"),
        Some(error) => format!("{what}: refused, {}: {error}", error.code()),
    }
}
