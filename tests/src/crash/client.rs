//! Clients that repeat what was not acknowledged, and never forget what was.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::plan::{Plan, Talk, Word};
use crate::http::{self, Answer};

/// Clients that talk at once.
const CLIENTS: usize = 4;
/// How long a client waits before it asks a host again that refused it.
const PAUSE: Duration = Duration::from_millis(5);

/// A talk as far as it came. What is in here was acknowledged.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) talk: Talk,
    /// The execution that the start was acknowledged with.
    pub(super) execution: Option<String>,
    /// How many of `talk.rest` were said.
    pub(super) words: usize,
    /// The ids of the signals that were acknowledged.
    pub(super) signals: Vec<String>,
    /// Requests that were acknowledged.
    pub(super) acknowledged: usize,
    /// What an acknowledged execution was refused as if it did not exist.
    pub(super) forgotten: Option<Word>,
}

/// The clients' own log.
pub(super) struct Clients {
    pub(super) said: Vec<Said>,
}

impl Clients {
    pub(super) fn new(plan: &Plan) -> Self {
        let said = |talk: &Talk| Said {
            talk: talk.clone(),
            execution: None,
            words: 0,
            signals: Vec::new(),
            acknowledged: 0,
            forgotten: None,
        };
        Self { said: plan.talks.iter().map(said).collect() }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.said.iter().map(|said| said.acknowledged).sum()
    }

    /// Talks to a host for a while, then ends it in the middle of whatever it does.
    pub(super) fn talk(
        &mut self,
        address: &str,
        round: usize,
        time: Duration,
        kill: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let over = AtomicBool::new(false);
        let failed = Mutex::new(None);
        let open: Vec<&mut Said> =
            self.said.iter_mut().filter(|said| said.talk.round <= round && !said.is_done()).collect();
        let mut shares: Vec<Vec<&mut Said>> = (0..CLIENTS).map(|_| Vec::new()).collect();
        open.into_iter().enumerate().for_each(|(at, said)| shares[at % CLIENTS].push(said));
        thread::scope(|scope| {
            for mut share in shares {
                let (over, failed) = (&over, &failed);
                scope.spawn(move || {
                    if let Err(error) = one(&mut share, address, over) {
                        failed.lock().expect("nobody panics with it").get_or_insert(error);
                    }
                });
            }
            thread::sleep(time);
            let killed = kill();
            over.store(true, Ordering::SeqCst);
            killed
        })?;
        failed.into_inner().expect("nobody panics with it").map_or(Ok(()), Err)
    }

    /// Says the rest of everything to a host that is not killed.
    pub(super) fn finish(&mut self, address: &str) -> Result<()> {
        let never = AtomicBool::new(false);
        let mut share: Vec<&mut Said> = self.said.iter_mut().filter(|said| !said.is_done()).collect();
        one(&mut share, address, &never)?;
        let left = share.iter().find(|said| !said.is_done());
        ensure!(left.is_none(), "a host that was not killed does not take {left:?}");
        Ok(())
    }
}

/// One client with its share of the talks: a word of each in turn, until all is said or the host dies.
fn one(share: &mut [&mut Said], address: &str, over: &AtomicBool) -> Result<()> {
    let mut refused_since: Option<Instant> = None;
    loop {
        let mut waits = false;
        for said in share.iter_mut().filter(|said| !said.is_done()) {
            if over.load(Ordering::SeqCst) {
                return Ok(());
            }
            match said.next(address) {
                // The host is dead, or dies: nobody knows whether it heard.
                Err(_) if over.load(Ordering::SeqCst) => return Ok(()),
                Err(_) => waits = true,
                Ok(answer) if answer.status >= 500 || answer.status == 429 => waits = true,
                Ok(answer) => said.take(&answer)?,
            }
        }
        if share.iter().all(|said| said.is_done()) {
            return Ok(());
        }
        if waits {
            let since = *refused_since.get_or_insert_with(Instant::now);
            ensure!(since.elapsed() < crate::PATIENCE, "the host at {address} does not take what it is told");
            thread::sleep(PAUSE);
        }
    }
}

impl Said {
    fn is_done(&self) -> bool {
        self.execution.is_some() && self.words == self.talk.rest.len()
    }

    /// The id of a signal of this talk.
    pub(super) fn signal_id(&self, number: u64) -> String {
        format!("{}-{number}", self.talk.key)
    }

    /// Asks for the start; as often as one likes.
    pub(super) fn start(&self, address: &str) -> Result<Answer> {
        let path = format!("/api/v0/workflows/{}/executions", self.talk.workflow);
        let headers = [("content-type", "application/json"), ("idempotency-key", self.talk.key.as_str())];
        let body = json!({ "input": self.talk.input }).to_string();
        http::send(address, "POST", &path, &headers, body.as_bytes())
    }

    /// Says the next thing.
    fn next(&self, address: &str) -> Result<Answer> {
        let Some(execution) = &self.execution else { return self.start(address) };
        let (verb, body) = match self.talk.rest[self.words] {
            Word::Signal(number) => {
                let id = self.signal_id(number);
                ("signals", json!({ "signal_name": "go", "signal_id": id, "payload": { "num": number } }))
            }
            Word::Pause => ("pause", json!({ "reason": "a look" })),
            Word::Resume => ("resume", json!({})),
        };
        let path = format!("/api/v0/executions/{execution}/{verb}");
        let headers = [("content-type", "application/json")];
        http::send(address, "POST", &path, &headers, body.to_string().as_bytes())
    }

    /// Notes what was acknowledged.
    fn take(&mut self, answer: &Answer) -> Result<()> {
        if self.execution.is_none() {
            ensure!(answer.status == 202, "the start {} was answered with {answer:?}", self.talk.key);
            let id = answer.body["exec_id"].as_str().context("a start is answered with an id")?;
            self.execution = Some(id.to_owned());
            self.acknowledged += 1;
            return Ok(());
        }
        let word = self.talk.rest[self.words];
        match (answer.status, word) {
            (200, Word::Signal(number)) => self.signals.push(self.signal_id(number)),
            (200, Word::Pause | Word::Resume) => {}
            // It has ended meanwhile: what was said before and not acknowledged was enough, or too late.
            (409, _) if answer.code() == "EXECUTION_ENDED" => {
                self.words += 1;
                return Ok(());
            }
            (404, _) => {
                self.words += 1;
                self.forgotten = Some(word);
                return Ok(());
            }
            _ => bail!("{word:?} of {} was answered with {answer:?}", self.talk.key),
        }
        self.words += 1;
        self.acknowledged += 1;
        Ok(())
    }

    /// What the execution must answer in the end.
    pub(super) fn is_expected(&self, output: &Value) -> bool {
        let input = &self.talk.input;
        output["n"] == input["n"]
            && match self.talk.workflow {
                "gather" => (output["one"].as_u64(), output["two"].as_u64()) == (Some(1), Some(2)),
                "timers" => output["items"] == 4,
                "large" => output["text"] == input["text"],
                _ => true,
            }
    }
}
