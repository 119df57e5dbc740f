//! Scripts: steps that are played on a fresh backend beside the model, and made short when they fail.

use std::fmt;

use crate::compare::{Mismatch, Verdict, mismatch};
use crate::model::{Model, Moving};
use crate::report::{Failure, Outcome};
use crate::shrink::{Budget, shrink};
use crate::subject::Backend;
use crate::suite::World;
use crate::time::Time;

/// One step of a script.
#[derive(Debug, Clone)]
pub(crate) enum Step<S> {
    /// Lets so many milliseconds pass.
    Turn(u64),
    /// A call of the role.
    Call(S),
    /// Looks at everything that should be there.
    Audit,
    /// Closes or kills the backend and opens it again.
    Reopen,
    /// Dumps everything and goes on in a fresh backend that loaded it.
    Move(Moving),
}

impl<S: fmt::Display> fmt::Display for Step<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn(ms) => write!(f, "-- {ms} ms pass"),
            Self::Call(step) => step.fmt(f),
            Self::Audit => f.write_str("-- look at everything"),
            Self::Reopen => f.write_str("-- close the backend and open it again"),
            Self::Move(Moving { max, again }) => {
                let again = if *again { ", each page twice" } else { "" };
                write!(f, "-- dump all by {max} and load it into a fresh backend{again}")
            }
        }
    }
}

/// A script in the making.
pub(crate) struct Script<S> {
    pub(crate) steps: Vec<Step<S>>,
    /// A time to live that a rule may wait for.
    pub(crate) ttl: u64,
    /// The largest value, in bytes.
    pub(crate) value_bytes_max: usize,
    exact: bool,
    needs_clock: bool,
}

impl<S> Script<S> {
    fn new(exact: bool, ttl: u64, value_bytes_max: usize) -> Self {
        Self { steps: Vec::new(), ttl, value_bytes_max, exact, needs_clock: false }
    }

    /// A call of the role.
    pub(crate) fn call(&mut self, step: S) -> &mut Self {
        self.steps.push(Step::Call(step));
        self
    }

    /// Calls of the role.
    pub(crate) fn calls(&mut self, steps: impl IntoIterator<Item = S>) -> &mut Self {
        self.steps.extend(steps.into_iter().map(Step::Call));
        self
    }

    /// Any step.
    pub(crate) fn step(&mut self, step: Step<S>) -> &mut Self {
        self.steps.push(step);
        self
    }

    /// True when the clock stands until it is turned.
    pub(crate) fn exact(&self) -> bool {
        self.exact
    }

    /// Waits until just before something ends that gets this time to live now; on a real clock, for a quarter of it.
    pub(crate) fn almost(&mut self, ttl: u64) -> &mut Self {
        self.step(Step::Turn(if self.exact { ttl - 1 } else { ttl / 4 }))
    }

    /// After [`Script::almost`]: until it has just ended.
    pub(crate) fn past(&mut self, ttl: u64) -> &mut Self {
        self.step(Step::Turn(if self.exact { 1 } else { ttl - ttl / 4 }))
    }

    /// The script waits for longer than a person would, so it needs a clock that can be turned.
    pub(crate) fn needs_clock(&mut self) -> &mut Self {
        self.needs_clock = true;
        self
    }
}

/// Why a script ended early.
pub(crate) enum Broken {
    /// The backend answered something else at this step.
    At(usize, Mismatch),
    /// The backend cannot be reopened.
    CannotReopen,
}

/// Plays a script on a fresh backend. Answers also whether calls took so long that times to live cannot be judged.
async fn play<M: Model>(world: &World<'_>, steps: &[Step<M::Step>], ttl: u64) -> (Result<(), Broken>, bool) {
    let time = Time::new(world.options.clock.clone());
    let result = play_timed::<M>(world, steps, &time).await;
    let waits = steps.iter().any(|step| matches!(step, Step::Turn(_)));
    (result, waits && time.drift_ms() > ttl / 2)
}

async fn play_timed<M: Model>(world: &World<'_>, steps: &[Step<M::Step>], time: &Time) -> Result<(), Broken> {
    let mut model = M::new(world.options);
    let mut stage = Stage::<M>::open(world).await.map_err(|found| Broken::At(0, found))?;
    for (index, step) in steps.iter().enumerate() {
        let verdict = match step {
            Step::Turn(ms) => {
                time.turn(*ms).await;
                Ok(())
            }
            Step::Call(call) => model.apply(&stage.store, call, time).await,
            Step::Audit => model.audit(&stage.store, time).await,
            Step::Reopen => match stage.reopen().await {
                Ok(true) => {
                    model.reopened(false);
                    Ok(())
                }
                Ok(false) => return Err(Broken::CannotReopen),
                Err(found) => Err(found),
            },
            Step::Move(moving) => {
                let next = Stage::<M>::open(world).await;
                match next {
                    Ok(next) => {
                        let moved = model.relocate(&stage.store, &next.store, *moving, time).await;
                        model.reopened(true);
                        stage = next;
                        moved
                    }
                    Err(found) => Err(found),
                }
            }
        };
        verdict.map_err(|found| Broken::At(index, found))?;
    }
    Ok(())
}

/// A backend and the store of the role that is tested.
pub(crate) struct Stage<M: Model> {
    backend: Box<dyn Backend>,
    pub(crate) store: std::sync::Arc<M::Store>,
}

impl<M: Model> Stage<M> {
    /// A fresh backend.
    pub(crate) async fn open(world: &World<'_>) -> Verdict<Self> {
        let opened = world.subject.open().await;
        let backend = opened.or_else(|error| mismatch("a fresh backend opens", error))?;
        let store = Self::store(&*backend)?;
        Ok(Self { backend, store })
    }

    fn store(backend: &dyn Backend) -> Verdict<std::sync::Arc<M::Store>> {
        let store = M::store(&backend.stores());
        store.map_or_else(|| mismatch(format!("a backend with the role {}", M::ROLE.name()), "it has not"), Ok)
    }

    /// Closes or kills the backend and opens it again; false when it cannot.
    pub(crate) async fn reopen(&mut self) -> Verdict<bool> {
        let reopened = self.backend.reopen().await;
        let reopened = reopened.or_else(|error| mismatch("the backend opens again", error))?;
        self.store = Self::store(&*self.backend)?;
        Ok(reopened)
    }
}

/// Plays a script that a rule writes; with a real clock again, slower, when the machine was too busy to judge it.
pub(crate) async fn judge<M: Model>(world: &World<'_>, write: impl Fn(&mut Script<M::Step>)) -> Outcome {
    const TRIES_MAX: u32 = 5;
    let exact = world.options.clock.is_some();
    let mut ttl =
        if exact { 1_000 } else { u64::try_from(world.options.real_ttl.as_millis()).unwrap_or(1_000).max(40) };
    for tries in 1.. {
        let mut script = Script::new(exact, ttl, world.options.value_bytes_max);
        write(&mut script);
        if script.needs_clock && !exact {
            return Outcome::Skipped("needs a clock that can be turned".to_owned());
        }
        match play::<M>(world, &script.steps, ttl).await {
            (Ok(()), _) => return Outcome::Passed,
            (Err(Broken::CannotReopen), _) => {
                return Outcome::Skipped("the backend cannot be reopened here".to_owned());
            }
            (Err(Broken::At(..)), true) if tries < TRIES_MAX => ttl *= 2,
            (Err(Broken::At(at, found)), _) => {
                return Outcome::Failed(shortest::<M>(world, script.steps, at, found, ttl).await);
            }
        }
    }
    unreachable!("the last try answers")
}

/// Plays steps as they are.
pub(crate) async fn judge_steps<M: Model>(world: &World<'_>, steps: Vec<Step<M::Step>>) -> Outcome {
    match play::<M>(world, &steps, u64::MAX).await.0 {
        Ok(()) => Outcome::Passed,
        Err(Broken::CannotReopen) => Outcome::Skipped("the backend cannot be reopened here".to_owned()),
        Err(Broken::At(at, found)) => Outcome::Failed(shortest::<M>(world, steps, at, found, u64::MAX).await),
    }
}

async fn shortest<M: Model>(
    world: &World<'_>,
    mut steps: Vec<Step<M::Step>>,
    at: usize,
    found: Mismatch,
    ttl: u64,
) -> Failure {
    steps.truncate(at + 1);
    let fails = |steps: Vec<Step<M::Step>>| async move {
        match play::<M>(world, &steps, ttl).await {
            (Err(Broken::At(at, found)), false) => {
                let mut steps = steps;
                steps.truncate(at + 1);
                Some((steps, found))
            }
            _ => None,
        }
    };
    let (steps, found) = shrink(steps, found, Budget::default(), fails).await;
    Failure { steps: steps.iter().map(ToString::to_string).collect(), expected: found.expected, actual: found.actual }
}
