//! The rules of each role.

use crate::keys::Pool;
use crate::model::{Model, Moving};
use crate::report::Outcome;
use crate::rng::Rng;
use crate::script::{Script, Step, judge, judge_steps};
use crate::suite::{Run, World};

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod locks;
pub(crate) mod memory;

/// A rule that is a script: its name, and who writes it.
type Rule<S> = (&'static str, fn(&mut Script<S>));

/// Looks at rules that are scripts.
async fn scripts<M: Model>(world: &World<'_>, run: &mut Run<'_>, rules: &[Rule<M::Step>]) {
    for (name, write) in rules {
        run.rule(M::ROLE, name, judge::<M>(world, write)).await;
    }
}

/// Random steps in one script: enough that they build on each other, few enough that a failure is soon short.
const EPISODE_STEPS: usize = 500;

/// Random scripts against the model.
async fn model<M: Model>(world: &World<'_>, run: &mut Run<'_>) {
    run.rule(M::ROLE, "agrees-with-the-model", random::<M>(world)).await;
}

async fn random<M: Model>(world: &World<'_>) -> Outcome {
    let mut left = world.options.operations;
    let mut rng = Rng::new(world.options.seed, M::ROLE.name());
    while left > 0 {
        let count = left.min(EPISODE_STEPS);
        left -= count;
        match judge_steps::<M>(world, episode::<M>(&mut rng, world, count)).await {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}

fn episode<M: Model>(rng: &mut Rng, world: &World<'_>, count: usize) -> Vec<Step<M::Step>> {
    let exact = world.options.clock.is_some();
    let pool = Pool::new(rng, exact);
    let mut steps: Vec<Step<M::Step>> = (0..count)
        .map(|_| match rng.below(500) {
            0 if world.reopens => Step::Reopen,
            1 => Step::Move(Moving { max: *rng.pick(&[1, 2, 5, 1_000]), again: rng.one_in(2) }),
            2..=5 => Step::Audit,
            6..=45 if exact => Step::Turn(*rng.pick(&[1, 9, 10, 490, 500, 999, 1_000, 59_000, 60_000])),
            _ => Step::Call(M::random(rng, &pool)),
        })
        .collect();
    steps.push(Step::Audit);
    steps
}
