//! Whether what concurrent callers saw fits some order of their calls: the algorithm of Wing and Gong, with Lowe's memory
//! of what was tried.
//!
//! A call takes effect at one moment between its begin and its end. If there is an order of such moments in which a store that
//! does one call at a time would have given the same answers, the history is linearizable.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

/// What one thing (a key, a lock) does, one call at a time.
pub(crate) trait Sequential {
    /// What it holds.
    type State: Clone + Eq + Hash;
    /// A call with its answer.
    type Call: Clone + Display;

    /// Before the first call.
    fn initial() -> Self::State;
    /// What it holds after this call; `None` when it could not have given this answer.
    fn after(state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

/// A call of a history.
#[derive(Debug, Clone)]
pub(crate) struct Record<C> {
    pub(crate) client: usize,
    /// A number that grows with time, drawn before the call.
    pub(crate) begun: u64,
    /// Likewise after its answer.
    pub(crate) ended: u64,
    pub(crate) call: C,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Linearizable,
    /// The calls around the place where no order goes on, the oldest first.
    Broken(Vec<String>),
    /// Too many orders to try them all.
    Undecided,
}

/// How many states are tried. Each call on one thing at one moment doubles them at worst, so callers spread over several things.
const STATES_MAX: usize = 2_000_000;
/// Calls that are shown before those that do not fit.
const SHOWN_BEFORE: usize = 8;

struct Search<'a, S: Sequential> {
    history: &'a [Record<S::Call>],
    tried: HashSet<(Vec<u64>, S::State)>,
    /// The longest order that was found.
    best: Vec<usize>,
}

/// Looks for an order.
pub(crate) fn check<S: Sequential>(mut history: Vec<Record<S::Call>>) -> Found {
    // The order of the ends is the likeliest one, and so tried first.
    history.sort_by_key(|record| record.ended);
    let mut search = Search::<S> { history: &history, tried: HashSet::new(), best: Vec::new() };
    let mut done = vec![0; history.len().div_ceil(64)];
    let mut order = Vec::new();
    match search.extend(&mut done, &mut order, &S::initial()) {
        Some(true) => Found::Linearizable,
        None => Found::Undecided,
        Some(false) => Found::Broken(search.around()),
    }
}

impl<S: Sequential> Search<'_, S> {
    /// Tries all ways to go on; `None` when there were too many.
    fn extend(&mut self, done: &mut Vec<u64>, order: &mut Vec<usize>, state: &S::State) -> Option<bool> {
        if order.len() > self.best.len() {
            self.best.clone_from(order);
        }
        if order.len() == self.history.len() {
            return Some(true);
        }
        if self.tried.len() >= STATES_MAX {
            return None;
        }
        if !self.tried.insert((done.clone(), state.clone())) {
            return Some(false);
        }
        for index in self.next(done) {
            let Some(after) = S::after(state, &self.history[index].call) else { continue };
            done[index / 64] |= 1 << (index % 64);
            order.push(index);
            let found = self.extend(done, order, &after);
            if found != Some(false) {
                return found;
            }
            order.pop();
            done[index / 64] &= !(1 << (index % 64));
        }
        Some(false)
    }

    /// Calls that may come next: those that began before any other one ended.
    fn next(&self, done: &[u64]) -> Vec<usize> {
        let open = |index: &usize| done[index / 64] & (1 << (index % 64)) == 0;
        let rest: Vec<usize> = (0..self.history.len()).filter(open).collect();
        let first_end = rest.first().map_or(u64::MAX, |index| self.history[*index].ended);
        rest.into_iter().filter(|index| self.history[*index].begun <= first_end).collect()
    }

    fn around(&self) -> Vec<String> {
        let mut done = vec![0; self.history.len().div_ceil(64)];
        self.best.iter().for_each(|index| done[index / 64] |= 1 << (index % 64));
        let before = &self.best[self.best.len().saturating_sub(SHOWN_BEFORE)..];
        let words = |index: &usize, fits: &str| {
            let record = &self.history[*index];
            format!("{fits} [{} to {}] client {}: {}", record.begun, record.ended, record.client, record.call)
        };
        let mut lines: Vec<String> = before.iter().map(|index| words(index, "fits")).collect();
        lines.extend(self.next(&done).iter().map(|index| words(index, "next?")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of a number.
    struct Register;

    #[derive(Debug, Clone)]
    enum Call {
        Write(u32),
        Read(u32),
    }

    impl Display for Call {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }

    impl Sequential for Register {
        type State = u32;
        type Call = Call;

        fn initial() -> u32 {
            0
        }

        fn after(state: &u32, call: &Call) -> Option<u32> {
            match call {
                Call::Write(value) => Some(*value),
                Call::Read(value) => (state == value).then_some(*state),
            }
        }
    }

    fn history(calls: &[(u64, u64, Call)]) -> Vec<Record<Call>> {
        let record = |(client, (begun, ended, call)): (usize, &(u64, u64, Call))| Record {
            client,
            begun: *begun,
            ended: *ended,
            call: call.clone(),
        };
        calls.iter().enumerate().map(record).collect()
    }

    #[test]
    fn overlapping_calls_may_come_in_any_order() {
        for seen in [0, 1] {
            let calls = history(&[(1, 4, Call::Write(1)), (2, 3, Call::Read(seen))]);
            assert_eq!(check::<Register>(calls), Found::Linearizable, "read {seen}");
        }
    }

    #[test]
    fn a_read_after_a_write_sees_it() {
        let calls = history(&[(1, 2, Call::Write(1)), (3, 4, Call::Read(0))]);
        let Found::Broken(lines) = check::<Register>(calls) else { panic!("stale read not found") };
        assert!(lines.last().unwrap().contains("Read(0)"), "{lines:?}");
    }

    #[test]
    fn two_readers_agree_on_the_order_of_two_writes() {
        let writes = [(1, 10, Call::Write(1)), (1, 10, Call::Write(2))];
        let reads = |first, second| [(11, 12, Call::Read(first)), (13, 14, Call::Read(second))];
        assert_eq!(check::<Register>(history(&[&writes[..], &reads(2, 2)].concat())), Found::Linearizable);
        assert!(matches!(check::<Register>(history(&[&writes[..], &reads(1, 2)].concat())), Found::Broken(_)));
    }

    #[test]
    fn long_histories_with_many_callers_are_decided() {
        // Eight writes at once, then reads of one of them, many times over.
        let mut calls = Vec::new();
        for round in 0..20_u64 {
            let start = round * 100;
            calls.extend((0..8).map(|number| (start, start + 50, Call::Write(number))));
            calls.extend((0..5).map(|_| (start + 60, start + 70, Call::Read((round % 8) as u32))));
        }
        assert_eq!(check::<Register>(history(&calls)), Found::Linearizable);
    }
}
