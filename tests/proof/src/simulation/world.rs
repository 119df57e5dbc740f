//! One engine on a simulated disk, and everything that happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Control, Engine as _, ExecutionId, StartRequest, TaskReport};
use compozy_engine::{Clock as _, EngineError, ErrorKind};
use compozy_interpreter::{Failure, Signal, Status, TaskKey, Timeout};
use compozy_plan::plan::Plan;
use compozy_tests::random::Random;
use serde_json::json;

use super::desk::{Begun, Desk, HandClock};
use super::invariants::{Around, Known};
use super::plans;
use crate::disk::{Disk, Fate, Mounted, Syncs, Trouble};

/// Rounds in which the engine must come to rest.
const ROUNDS_MAX: usize = 20_000;
/// Rounds in which all runs must end when nothing new is asked of them.
const END_ROUNDS_MAX: usize = 300;
/// Rounds of those after which runs that wait for ever are cancelled.
const PATIENT_ROUNDS: usize = 60;

/// A start that somebody asked for.
struct Start {
    key: String,
    plan: Arc<Plan>,
    /// What it was acknowledged with.
    id: Option<ExecutionId>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) crashes: u64,
    engine: Option<LocalEngine>,
    disk: Mounted,
    syncs: Syncs,
    desk: Arc<Desk>,
    clock: Arc<HandClock>,
    /// The latest time since the last look.
    latest_ms: u64,
    concurrency: usize,
    workflows: Arc<BTreeMap<String, Arc<Plan>>>,
    starts: Vec<Start>,
    /// All runs, in the order in which they began.
    order: Vec<ExecutionId>,
    runs: BTreeMap<String, Known>,
    /// Answers by run and task.
    answers: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Attempts that began on earlier desks, and stay begun whatever happens.
    begun: Vec<Begun>,
    tokens: u64,
    signals: u64,
}

/// What was promised by the last action, and at which moment of the disk.
enum Promise {
    Nothing,
    Started(usize),
    Signaled(ExecutionId, String),
}

impl World {
    pub(super) async fn new(mut random: Random, syncs: Syncs) -> Result<Self> {
        let disk = Disk::empty()?;
        disk.treat(syncs);
        let clock = HandClock::new(random.number());
        let desk = Desk::new(disk.shared(), Arc::clone(&clock));
        let concurrency = [1, 2, 64][random.below(3) as usize];
        let latest_ms = clock.now_ms();
        let mut world = Self {
            random,
            crashes: 0,
            engine: None,
            disk,
            syncs,
            desk,
            clock,
            latest_ms,
            concurrency,
            workflows: Arc::new(plans::known()),
            starts: Vec::new(),
            order: Vec::new(),
            runs: BTreeMap::new(),
            answers: BTreeMap::new(),
            begun: Vec::new(),
            tokens: 0,
            signals: 0,
        };
        world.open()?;
        world.rest().await?;
        Ok(world)
    }

    /// Runs that there are.
    pub(super) fn known(&self) -> u64 {
        self.order.len() as u64
    }

    fn engine(&self) -> &LocalEngine {
        self.engine.as_ref().expect("an engine is open between two crashes")
    }

    fn open(&mut self) -> Result<()> {
        let mut options = LocalOptions::new(self.disk.folder(), Arc::clone(&self.desk) as _);
        options.clock = Arc::clone(&self.clock) as _;
        options.concurrency = self.concurrency;
        options.workflows = Arc::clone(&self.workflows) as _;
        self.engine = Some(LocalEngine::open(options).context("the journal does not open")?);
        Ok(())
    }

    /// One thing happens; then the engine comes to rest and is looked at.
    pub(super) async fn step(&mut self, log: &mut Vec<String>) -> Result<()> {
        if self.random.percent(2) {
            let trouble = [Trouble::Full, Trouble::SyncLost, Trouble::SyncDone][self.random.below(3) as usize];
            let operations = 1 + self.random.below(2) as u32;
            log.push(format!("the disk fails: {trouble:?} {operations} times"));
            self.disk.trouble(trouble, operations);
        }
        let before = self.disk.moment();
        let crashes = self.random.percent(12);
        let (told, promise) = self.act().await?;
        log.push(told);
        if crashes {
            let promised_at = self.disk.moment();
            // What follows from the action happens too, and the cut may be anywhere in it.
            self.rest().await?;
            self.crash(before, promised_at, promise, log).await?;
        }
        self.rest().await?;
        self.look().await
    }

    async fn act(&mut self) -> Result<(String, Promise)> {
        let some_run = |world: &mut Self| {
            let at = world.random.below(world.order.len() as u64) as usize;
            world.order.get(at).cloned().map(|id| (at, id))
        };
        let choice = self.random.below(100);
        match choice {
            0..15 => return self.start().await,
            15..20 => return self.start_again().await,
            20..55 => return Ok((self.answer(), Promise::Nothing)),
            55..75 => return Ok((self.pass_time(), Promise::Nothing)),
            _ => {}
        }
        let Some((at, id)) = some_run(self) else { return self.start().await };
        let reason = "so it is drawn".to_owned();
        let control = match choice {
            75..83 => {
                let repeated = self.random.percent(25);
                self.signals += u64::from(!repeated);
                let name = format!("s{}", self.signals);
                let payload = json!(self.random.below(8));
                let signal = Signal { name: "go".into(), payload, id: name, source: "test".into() };
                Control::Signal(signal)
            }
            83..86 => Control::Pause { reason },
            86..90 => Control::Resume,
            90..92 => Control::Cancel { reason, grace_ms: self.random.below(3) * 20 },
            92 => Control::Terminate { reason },
            93..97 => Control::Retry,
            _ => {
                let execution = self.engine().execution(&id).await?.context("a known run")?;
                let count = execution.state.tasks.len() as u64;
                let task = execution.state.tasks.get_index(self.random.below(count) as usize);
                Control::Reset { task: task.map_or(TaskKey("none".into()), |(key, _)| key.clone()) }
            }
        };
        let told = format!("{} run {at}", control.name());
        let signal = if let Control::Signal(signal) = &control { Some(signal.id.clone()) } else { None };
        let answer = self.engine().control(&id, control).await;
        let answered = permitted(answer)?;
        let promise = match signal {
            Some(signal) if answered == "done" => Promise::Signaled(id, signal),
            _ => Promise::Nothing,
        };
        Ok((format!("{told}: {answered}"), promise))
    }

    async fn start(&mut self) -> Result<(String, Promise)> {
        let plan = match self.random.below(4) {
            0 => {
                let at = self.random.below(self.workflows.len() as u64) as usize;
                Arc::clone(self.workflows.values().nth(at).expect("some are known"))
            }
            _ => plans::draw(&mut self.random),
        };
        let at = self.starts.len();
        self.starts.push(Start { key: format!("start-{at}"), plan, id: None });
        self.ask(at).await
    }

    async fn start_again(&mut self) -> Result<(String, Promise)> {
        if self.starts.is_empty() {
            return self.start().await;
        }
        let at = self.random.below(self.starts.len() as u64) as usize;
        self.ask(at).await
    }

    async fn ask(&mut self, at: usize) -> Result<(String, Promise)> {
        let start = &self.starts[at];
        let request = StartRequest {
            plan: Arc::clone(&start.plan),
            input: json!({}),
            idempotency_key: Some(start.key.clone()),
            priority: None,
        };
        match self.engine().start(request).await {
            Ok(id) => {
                if let Some(known) = &start.id {
                    ensure!(*known == id, "the start {} was {known} and is {id}", start.key);
                }
                self.starts[at].id = Some(id);
                Ok((format!("start {at}"), Promise::Started(at)))
            }
            Err(error) => Ok((format!("start {at}: {}", permitted(Err(error))?), Promise::Nothing)),
        }
    }

    fn answer(&mut self) -> String {
        let open = self.desk.open();
        if open.is_empty() {
            return "nobody works".to_owned();
        }
        let (number, call) = open[self.random.below(open.len() as u64) as usize].clone();
        let (what, result) = match self.random.below(10) {
            0..6 => {
                self.tokens += 1;
                let token = format!("token-{}", self.tokens);
                let of_run = self.answers.entry(call.execution.0.clone()).or_default();
                of_run.entry(call.task.clone()).or_default().insert(token.clone());
                ("well", Ok(json!({ "token": token })))
            }
            6..8 => ("transient", Err(Failure::transient("DOWN", "is down"))),
            8 => ("broken", Err(Failure::transient("BROKEN", "is broken"))),
            _ => ("late", Err(Failure::timed_out(Timeout::StartToClose, "took too long"))),
        };
        self.desk.answer(number, TaskReport { result, ran: None });
        format!("{} attempt {}: {what}", call.task, call.attempt)
    }

    fn pass_time(&mut self) -> String {
        let now_ms = self.clock.now_ms();
        let to = match self.random.below(20) {
            0 => now_ms + 3_600_000,
            1 | 2 => now_ms - self.random.below(3_600_000),
            3..8 => now_ms + 100 + self.random.below(400),
            _ => now_ms + 1 + self.random.below(40),
        };
        self.set_clock(to);
        format!("the clock goes by {} ms", to.cast_signed() - now_ms.cast_signed())
    }

    fn set_clock(&mut self, ms: u64) {
        self.clock.set(ms);
        self.latest_ms = self.latest_ms.max(ms);
    }

    /// The process is killed, or the power is cut, between two moments; another engine goes on.
    async fn crash(&mut self, from: usize, promised_at: usize, promise: Promise, log: &mut Vec<String>) -> Result<()> {
        self.crashes += 1;
        self.disk.no_trouble();
        let end = self.disk.moment();
        let cut = from + self.random.below((end - from) as u64 + 1) as usize;
        let fate = [Fate::Kept, Fate::Kept, Fate::Dropped, Fate::Mixed, Fate::Mixed][self.random.below(5) as usize];
        log.push(format!("crash, {fate:?}, {} operations before the end", end - cut));
        let files = self.disk.cut(cut, fate, &mut self.random);
        self.begun.extend(self.desk.begun().into_iter().filter(|begun| begun.moment <= cut));
        drop(self.engine.take());
        self.disk = Disk::with(&files)?;
        self.disk.treat(self.syncs);
        self.desk = Desk::new(self.disk.shared(), Arc::clone(&self.clock));
        self.open()?;
        let holds = cut >= promised_at;
        match promise {
            // Nobody knows whether it was heard; the same key finds out.
            Promise::Started(at) if !holds => {
                if let Some(id) = self.starts[at].id.take_if(|id| !self.runs.contains_key(&id.0)) {
                    self.order.retain(|known| *known != id);
                }
            }
            Promise::Started(at) => {
                let id = self.starts[at].id.clone().context("it was acknowledged")?;
                ensure!(self.engine().execution(&id).await?.is_some(), "the start {at} was acknowledged and is lost");
            }
            Promise::Signaled(id, signal) if holds => {
                let execution = self.engine().execution(&id).await?.context("a known run is lost")?;
                ensure!(
                    execution.state.signal_ids.contains(&signal),
                    "the signal {signal} was acknowledged and is lost"
                );
            }
            Promise::Nothing | Promise::Signaled(..) => {}
        }
        Ok(())
    }

    /// Waits until nothing happens by itself any more.
    async fn rest(&mut self) -> Result<()> {
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            // Goes through the writer, so everything that was there before it is done.
            match self.engine().prune(0).await {
                Ok(_) => {}
                Err(error) if error.retryable() => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            let (open, begun) = self.desk.counts();
            let stats = self.engine().stats();
            let now = (open, begun, stats.attempts, self.engine().health().running_tasks);
            if last == Some(now) && now.0 as u64 == now.3 {
                return Ok(());
            }
            last = Some(now);
        }
        bail!("the engine does not come to rest: {last:?}, {:?}", self.engine().health())
    }

    /// Looks at every run that has not ended, or had not at the last look.
    async fn look(&mut self) -> Result<()> {
        let mut list = self.engine().list(1000, None).await?;
        list.reverse();
        let all: BTreeMap<String, Status> = list.iter().map(|line| (line.id.0.clone(), line.status)).collect();
        for id in self.runs.keys() {
            ensure!(all.contains_key(id), "the run {id} is gone");
        }
        let open = self.desk.open();
        let full = open.len() >= self.concurrency;
        for line in list {
            if !self.runs.contains_key(&line.id.0) && !self.order.contains(&line.id) {
                self.order.push(line.id.clone());
            }
            let known = self.runs.entry(line.id.0.clone()).or_default();
            if known.status == Some(line.status) && line.status.is_terminal() {
                continue;
            }
            let engine = self.engine.as_ref().expect("open");
            let execution = engine.execution(&line.id).await?.context("it is listed")?;
            let journal = engine.journal(&line.id).await?;
            let worked_on: BTreeSet<String> =
                open.iter().filter(|(_, call)| call.execution == line.id).map(|(_, call)| call.task.clone()).collect();
            let none = BTreeMap::new();
            let answers = self.answers.get(&line.id.0).unwrap_or(&none);
            let now_ms = self.latest_ms;
            let around = Around { now_ms, worked_on: &worked_on, full, answers, all: &all };
            known.look(&execution, journal, &around)?;
            if execution.state.status.is_terminal() || self.random.percent(20) {
                let difference = engine.verify(&line.id).await?;
                ensure!(difference.is_none(), "{} does not verify: {difference:?}", line.id);
            }
        }
        self.attempts_once()?;
        self.latest_ms = self.clock.now_ms();
        Ok(())
    }

    /// No attempt begins twice.
    fn attempts_once(&self) -> Result<()> {
        let mut last: BTreeMap<(String, String), u32> = BTreeMap::new();
        for begun in self.begun.iter().cloned().chain(self.desk.begun()) {
            let Begun { execution, task, attempt, now_ms, .. } = begun;
            let key = (execution, task);
            if let Some(before) = last.get(&key) {
                ensure!(attempt > *before, "attempt {attempt} of {key:?} began after {before}, at {now_ms}");
            }
            last.insert(key, attempt);
        }
        Ok(())
    }

    /// Lets everything come to its end.
    pub(super) async fn end(&mut self, log: &mut Vec<String>) -> Result<()> {
        self.disk.no_trouble();
        for round in 0..END_ROUNDS_MAX {
            for at in 0..self.starts.len() {
                if self.starts[at].id.is_none() {
                    log.push(self.ask(at).await?.0);
                }
            }
            self.rest().await?;
            self.look().await?;
            let open: Vec<ExecutionId> =
                self.order.iter().filter(|id| !self.status(id).is_some_and(Status::is_terminal)).cloned().collect();
            if open.is_empty() && self.starts.iter().all(|start| start.id.is_some()) {
                return self.ended().await;
            }
            log.push(format!("{} runs are open", open.len()));
            self.help(&open, round).await?;
        }
        bail!("runs do not end: {:?}", self.order.iter().map(|id| (id, self.status(id))).collect::<Vec<_>>())
    }

    fn status(&self, id: &ExecutionId) -> Option<Status> {
        self.runs.get(&id.0).and_then(|known| known.status)
    }

    /// Whatever a run may wait for happens.
    async fn help(&mut self, open: &[ExecutionId], round: usize) -> Result<()> {
        let desk = self.desk.open();
        // One thing at a time: what came together would be taken in an order that no seed decides.
        for (number, _) in &desk {
            self.desk.answer(*number, TaskReport { result: Ok(json!({ "late": true })), ran: None });
            self.rest().await?;
        }
        for id in open {
            permitted(self.engine().control(id, Control::Resume).await)?;
            self.rest().await?;
            if self.status(id) == Some(Status::Waiting) {
                self.signals += 1;
                let name = format!("s{}", self.signals);
                let signal = Signal { name: "go".into(), payload: json!(9), id: name, source: "test".into() };
                permitted(self.engine().control(id, Control::Signal(signal)).await)?;
            }
            if round > PATIENT_ROUNDS {
                permitted(self.engine().control(id, Control::Cancel { reason: String::new(), grace_ms: 0 }).await)?;
            }
            self.rest().await?;
        }
        if desk.is_empty() {
            let due = self.runs.values().flat_map(|known| known.timers.values()).min().copied();
            let now_ms = self.clock.now_ms();
            self.set_clock(due.unwrap_or(now_ms).max(now_ms + 100));
        }
        Ok(())
    }

    /// Nothing is open, the file is sound, and another engine finds the same.
    async fn ended(&mut self) -> Result<()> {
        self.rest().await?;
        let open = self.engine().health().open_executions;
        ensure!(open == 0, "{open} runs are counted as open");
        let before = self.engine().list(1000, None).await?;
        self.engine().stop(Duration::ZERO).await;
        self.engine = None;
        let conn = rusqlite::Connection::open(self.disk.folder().join("journal.db"))?;
        let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(check == "ok", "the file is damaged: {check}");
        for table in ["outbox", "timer"] {
            let rows: u64 = conn.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0))?;
            ensure!(rows == 0, "{rows} rows are left in {table}");
        }
        drop(conn);
        self.open()?;
        let after = self.engine().list(1000, None).await?;
        ensure!(before == after, "another engine finds other runs: {after:?}");
        self.look().await?;
        self.engine().stop(Duration::ZERO).await;
        Ok(())
    }
}

/// What may be answered to a request: done, refused for a good reason, or not possible now.
fn permitted(answer: Result<(), EngineError>) -> Result<&'static str> {
    match answer {
        Ok(()) => Ok("done"),
        Err(error) if matches!(error.kind(), ErrorKind::Internal) => Err(error.into()),
        Err(EngineError::JournalCorrupt { path, reason }) => bail!("{} is damaged: {reason}", path.display()),
        Err(EngineError::ExecutionUnreadable { reason }) => bail!("a run cannot be read: {reason}"),
        Err(error) => Ok(error.code()),
    }
}
