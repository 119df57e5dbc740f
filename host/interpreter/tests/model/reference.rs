//! What must have become of a run, worked out from its plan and its history alone.
//!
//! A moment is the number of an event, from 0 for the start. A task that needs nobody begins and ends in one moment.

use std::collections::BTreeMap;

use compozy_plan::plan::{Plan, Strategy, Task, TaskKind};
use serde_json::{Map, Value, json};

/// How a task or a run stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Open,
    Success(Option<Value>),
    Failed(String),
    TimedOut(String),
    Canceled,
}

/// A task that began.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) outcome: Outcome,
    begin: usize,
    end: Option<usize>,
}

pub(crate) type Records = BTreeMap<String, Record>;

/// What came when.
#[derive(Debug, Default)]
pub(crate) struct History {
    answers: BTreeMap<String, (usize, Result<Value, String>)>,
    timers: BTreeMap<String, usize>,
    signals: BTreeMap<String, usize>,
    order: Vec<String>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn answered(&mut self, key: &str, answer: Result<Value, String>) {
        self.order.push(format!("{key}: {answer:?}"));
        self.answers.insert(key.to_owned(), (self.order.len(), answer));
    }

    pub(crate) fn fired(&mut self, timer: &str) {
        self.order.push(timer.to_owned());
        self.timers.insert(timer.to_owned(), self.order.len());
    }

    /// Of several signals of one name only the first is ever taken: each name has one wait.
    pub(crate) fn signaled(&mut self, name: &str) {
        self.order.push(format!("signal {name}"));
        self.signals.entry(name.to_owned()).or_insert(self.order.len());
    }

    pub(crate) fn order(&self) -> &[String] {
        &self.order
    }

    fn timer(&self, name: &str, key: &str) -> Option<usize> {
        self.timers.get(&format!("{name}:{key}")).copied()
    }
}

/// How something ended, and when.
#[derive(Debug, Clone)]
struct Ended {
    at: usize,
    result: Result<Option<Value>, String>,
    skipped: bool,
}

/// The run, and every task that began.
pub(crate) fn run(plan: &Plan, history: &History) -> (Outcome, Records) {
    let mut records = Records::new();
    let end = list(history, &plan.tasks, "", 0, &mut records);
    let outcome = match end {
        None => Outcome::Open,
        // The output of the task that ended the run.
        Some((ended, last)) => match ended.result {
            Ok(_) => Outcome::Success(Some(match &records[&last].outcome {
                Outcome::Success(Some(output)) => output.clone(),
                _ => Value::Null,
            })),
            Err(code) => Outcome::Failed(code),
        },
    };
    (outcome, records)
}

/// Tasks one after the other. `None`: it has not ended. With the key of the task that ended it.
fn list(
    history: &History,
    tasks: &[Task],
    prefix: &str,
    begin: usize,
    records: &mut Records,
) -> Option<(Ended, String)> {
    let (mut at, mut now) = (0, begin);
    loop {
        let task = &tasks[at];
        let key = format!("{prefix}{}", task.id);
        let ended = visit(history, task, &key, now, records)?;
        now = ended.at;
        let following = (at + 1 < tasks.len()).then_some(at + 1);
        let place = |id: &String| tasks.iter().position(|task| task.id == *id);
        let target = match (&ended.result, &task.kind) {
            (Ok(_), _) if ended.skipped => following,
            (Ok(_), TaskKind::Router { routes, .. }) => routes.get("a").and_then(place),
            (Ok(_), _) if task.is_final => None,
            (Ok(_), _) => task.on_success.as_ref().and_then(|to| to.next.as_ref()).map_or(following, place),
            (Err(code), TaskKind::Wait(wait)) if code == "WAIT_TIMEOUT" && wait.on_timeout.is_some() => {
                wait.on_timeout.as_ref().and_then(place)
            }
            (Err(_), _) => match &task.on_error {
                None => return Some((ended, key)),
                Some(to) => match &to.next {
                    Some(next) => place(next),
                    None if task.is_final => None,
                    None => following,
                },
            },
        };
        match target {
            Some(target) => at = target,
            None => return Some((Ended { result: Ok(None), ..ended }, key)),
        }
    }
}

/// One task: its condition, what it does, its timeout, the sleep after it.
fn visit(history: &History, task: &Task, key: &str, begin: usize, records: &mut Records) -> Option<Ended> {
    let open = Record { outcome: Outcome::Open, begin, end: None };
    records.insert(key.to_owned(), open);
    if task.condition.as_ref().is_some_and(|condition| condition.source() == "1 == 2") {
        close(records, key, begin, Outcome::Success(None));
        return Some(Ended { at: begin, result: Ok(None), skipped: true });
    }
    let mut ended = work(history, task, key, begin, records);
    if let Some(over) = history.timer("task", key)
        && ended.as_ref().is_none_or(|ended| ended.at > over)
    {
        cut(records, &inside(key), over);
        close(records, key, over, Outcome::TimedOut("TASK_TIMEOUT".to_owned()));
        return Some(Ended { at: over, result: Err("TASK_TIMEOUT".to_owned()), skipped: false });
    }
    let end = ended.as_mut()?;
    let outcome = match &end.result {
        Ok(output) => Outcome::Success(output.clone()),
        Err(code) if code == "WAIT_TIMEOUT" && matches!(task.kind, TaskKind::Wait(_)) => {
            Outcome::TimedOut(code.clone())
        }
        Err(code) => Outcome::Failed(code.clone()),
    };
    close(records, key, end.at, outcome);
    if end.result.is_ok() && task.sleep_ms.is_some() {
        end.at = history.timer("sleep", key)?;
    }
    ended
}

fn work(history: &History, task: &Task, key: &str, begin: usize, records: &mut Records) -> Option<Ended> {
    let at_once = |result| Some(Ended { at: begin, result, skipped: false });
    match &task.kind {
        TaskKind::Basic(_) | TaskKind::Memory(_) | TaskKind::Signal(_) | TaskKind::Workflow(_) => {
            let (at, answer) = history.answers.get(key)?.clone();
            Some(Ended { at, result: answer.map(Some), skipped: false })
        }
        TaskKind::Wait(wait) => {
            // A signal that came before the wait began is taken when it begins.
            let taken = history.signals.get(&wait.name).map(|came| begin.max(*came));
            let over = history.timer("wait", key);
            if let Some(at) = taken.filter(|at| over.is_none_or(|over| *at < over)) {
                let output = task.outputs.as_ref().map(compozy_plan::template::Template::source);
                return Some(Ended { at, result: Ok(output), skipped: false });
            }
            let at = over?;
            Some(Ended { at, result: Err("WAIT_TIMEOUT".to_owned()), skipped: false })
        }
        TaskKind::Aggregate => at_once(Ok(task.outputs.as_ref().map(compozy_plan::template::Template::source))),
        TaskKind::Router { condition, routes } => {
            let value = condition.source().trim_matches('"');
            at_once(routes.get(value).map_or(Err("ROUTE_NOT_FOUND".to_owned()), |route| {
                Ok(Some(json!({ "condition": value, "route_taken": route, "router_type": "conditional" })))
            }))
        }
        TaskKind::Composite { tasks } => {
            let (mut ended, _) = list(history, tasks, &format!("{key}/"), begin, records)?;
            if ended.result.is_ok() {
                let outputs = tasks
                    .iter()
                    .filter_map(|task| Some((task.id.clone(), output(records, &format!("{key}/{}", task.id))?)));
                ended.result = Ok(Some(Value::Object(outputs.collect::<Map<_, _>>())));
            }
            Some(Ended { skipped: false, ..ended })
        }
        TaskKind::Parallel(parallel) => {
            let children: Vec<(String, &Task)> =
                parallel.tasks.iter().map(|task| (format!("{key}/{}", task.id), task)).collect();
            let (ended, _) = beside(history, &children, parallel.parallel, parallel.strategy, begin, records)?;
            let outputs = || {
                let outputs = children.iter().filter_map(|(key, task)| Some((task.id.clone(), output(records, key)?)));
                Value::Object(outputs.collect::<Map<_, _>>())
            };
            Some(Ended { result: ended.result.map(|_| Some(outputs())), ..ended })
        }
        TaskKind::Collection(collection) => {
            let count = collection.items.source().as_array().map_or(0, Vec::len);
            let children: Vec<(String, &Task)> =
                (0..count).map(|at| (format!("{key}[{at}]"), &collection.task)).collect();
            let (ended, winner) = beside(history, &children, collection.parallel, collection.strategy, begin, records)?;
            let outputs: Vec<Value> =
                children.iter().map(|(key, _)| output(records, key).unwrap_or(Value::Null)).collect();
            let mut answer = json!({ "outputs": outputs, "item_count": count, "skipped_count": 0 });
            if let Some(winner) = winner {
                answer["winner"] = json!(winner);
            }
            Some(Ended { result: ended.result.map(|_| Some(answer)), ..ended })
        }
    }
}

/// Tasks beside each other. With the child that won a race.
fn beside(
    history: &History,
    children: &[(String, &Task)],
    workers: u32,
    strategy: Strategy,
    begin: usize,
    records: &mut Records,
) -> Option<(Ended, Option<usize>)> {
    let stops = |ended: &Ended| match strategy {
        Strategy::WaitAll | Strategy::FailFast => ended.result.is_err(),
        Strategy::Race => ended.result.is_ok() && !ended.skipped,
        Strategy::BestEffort => false,
    };
    let mut ends: Vec<Option<Ended>> = Vec::new();
    let (mut now, mut all_begun) = (begin, true);
    for (key, task) in children {
        // A child begins as soon as fewer run than may, unless one that ended by then stops it.
        let running = |moment: usize| {
            ends.iter().filter(|end| end.as_ref().is_none_or(|end| end.at > moment)).count() < workers as usize
        };
        let mut moments: Vec<usize> = ends.iter().flatten().map(|end| end.at).filter(|at| *at > now).collect();
        moments.push(now);
        moments.sort_unstable();
        let free = moments.into_iter().find(|moment| running(*moment));
        let stopped = |moment: usize| ends.iter().flatten().any(|end| stops(end) && end.at <= moment);
        let Some(moment) = free.filter(|moment| !stopped(*moment)) else {
            all_begun = false;
            break;
        };
        now = moment;
        ends.push(visit(history, task, key, now, records));
    }
    let decisive = ends.iter().enumerate().filter_map(|(at, end)| Some((at, end.as_ref().filter(|end| stops(end))?)));
    if matches!(strategy, Strategy::FailFast | Strategy::Race)
        && let Some((at, end)) = decisive.min_by_key(|(at, end)| (end.at, *at))
    {
        for (other, (key, _)) in children.iter().enumerate() {
            if other != at {
                cut(records, &|name: &str| name == key || inside(key)(name), end.at);
            }
        }
        let winner = (strategy == Strategy::Race).then_some(at);
        return Some((Ended { skipped: false, ..end.clone() }, winner));
    }
    let stopped = ends.iter().flatten().any(stops);
    if !(all_begun || stopped) || ends.iter().any(Option::is_none) {
        return None;
    }
    let ends: Vec<Ended> = ends.into_iter().flatten().collect();
    let at = ends.iter().map(|end| end.at).max().unwrap_or(begin);
    let failure = ends.iter().find_map(|end| end.result.clone().err());
    let succeeded = ends.iter().any(|end| end.result.is_ok() && !end.skipped);
    let result = match (strategy, failure) {
        (Strategy::WaitAll | Strategy::FailFast, Some(code)) => Err(code),
        (Strategy::BestEffort | Strategy::Race, Some(code)) if !succeeded => Err(code),
        _ => Ok(None),
    };
    Some((Ended { at, result, skipped: false }, None))
}

fn output(records: &Records, key: &str) -> Option<Value> {
    match &records.get(key)?.outcome {
        Outcome::Success(output) => output.clone(),
        _ => None,
    }
}

fn close(records: &mut Records, key: &str, at: usize, outcome: Outcome) {
    let record = records.get_mut(key).expect("it began");
    record.outcome = outcome;
    record.end = Some(at);
}

/// Whether a key is that of a task inside of another.
fn inside(key: &str) -> impl Fn(&str) -> bool {
    let (list, item) = (format!("{key}/"), format!("{key}["));
    move |name| name.starts_with(&list) || name.starts_with(&item)
}

/// Cancels at a moment: what had not ended is cancelled, what had not begun never does.
fn cut(records: &mut Records, concerned: &dyn Fn(&str) -> bool, moment: usize) {
    records.retain(|key, record| !concerned(key) || record.begin <= moment);
    for (key, record) in records.iter_mut() {
        if concerned(key) && record.end.is_none_or(|end| end > moment) {
            record.outcome = Outcome::Canceled;
            record.end = Some(moment);
        }
    }
}
