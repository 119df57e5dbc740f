//! What clients say and when the host dies, drawn from a seed.

use serde_json::{Value, json};

use crate::random::Random;

/// The largest text of an input, in bytes. Above what a journal keeps inline, if it keeps large values elsewhere.
const TEXT_BYTES_MAX: u64 = 200 * 1024;

/// Everything that will happen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// One host each.
    pub(super) rounds: Vec<Round>,
    /// What clients say.
    pub(super) talks: Vec<Talk>,
}

/// The life of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    /// It is killed so long after its process began, before it listens.
    pub(super) in_start_ms: Option<u64>,
    /// It is killed so long after it listened.
    pub(super) after_ms: u64,
}

/// What one client says about one execution, in order: the next thing only after the one before was acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Talk {
    /// Begins in this round.
    pub(super) round: usize,
    /// The workflow.
    pub(super) workflow: &'static str,
    /// The start's idempotency key.
    pub(super) key: String,
    /// The start's input.
    pub(super) input: Value,
    /// What follows.
    pub(super) rest: Vec<Word>,
}

/// What is said to an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The signal `go` with this number.
    Signal(u64),
    /// Pause.
    Pause,
    /// Resume.
    Resume,
}

impl Plan {
    /// The same seed gives the same plan.
    pub(super) fn draw(seed: u64, kills: usize) -> Self {
        let mut random = Random::new(seed);
        let mut plan = Self { rounds: Vec::new(), talks: Vec::new() };
        for round in 0..kills {
            // The first host has nothing to take over.
            let in_start = round > 0 && random.percent(15);
            let in_start_ms = in_start.then(|| random.below(120));
            plan.rounds.push(Round { in_start_ms, after_ms: 20 + random.below(480) });
            for _ in 0..4 + random.below(5) {
                let at = plan.talks.len();
                plan.talks.push(talk(&mut random, round, at));
            }
        }
        plan
    }
}

fn talk(random: &mut Random, round: usize, at: usize) -> Talk {
    let (workflow, mut rest) = match random.below(16) {
        0..3 => ("gather", vec![Word::Signal(1), Word::Signal(2)]),
        3..6 => ("race", Vec::new()),
        6..9 => ("timers", Vec::new()),
        9..11 => ("family", Vec::new()),
        11 => ("large", Vec::new()),
        _ => ("chain", Vec::new()),
    };
    if random.percent(30) {
        let begin = random.below(rest.len() as u64 + 1) as usize;
        rest.insert(begin, Word::Pause);
        let end = begin + 1 + random.below((rest.len() - begin) as u64) as usize;
        rest.insert(end, Word::Resume);
    }
    let mut input = json!({ "n": at });
    if workflow == "large" {
        let length = 80 * 1024 + random.below(TEXT_BYTES_MAX - 80 * 1024);
        input["text"] = json!(text(random, length as usize));
    }
    Talk { round, workflow, key: format!("talk-{at}"), input, rest }
}

/// Text that cannot be compressed to nothing.
fn text(random: &mut Random, length: usize) -> String {
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        text.push_str(&format!("{:016x}", random.number()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_and_plans_have_everything_in_them() {
        let plan = Plan::draw(7, 60);
        assert_eq!(plan, Plan::draw(7, 60));
        assert_ne!(plan, Plan::draw(8, 60));
        assert!(plan.rounds.iter().any(|round| round.in_start_ms.is_some()));
        for workflow in ["gather", "race", "timers", "family", "large", "chain"] {
            assert!(plan.talks.iter().any(|talk| talk.workflow == workflow), "{workflow}");
        }
        for talk in &plan.talks {
            let place = |word| talk.rest.iter().position(|found| *found == word);
            assert!(place(Word::Pause) <= place(Word::Resume), "{talk:?}");
            assert!(place(Word::Signal(1)) <= place(Word::Signal(2)), "{talk:?}");
        }
        assert!(plan.talks.iter().any(|talk| talk.rest.contains(&Word::Pause)));
    }
}
