//! Who is next: tasks that wait for a slot stand in lanes, so that none holds up what has nothing to do with it.
//!
//! A lane has the ready tasks of one workflow with the same priority and the same limits; the journal keeps its name
//! with each task, and finds the first task of a lane in an index. Here is only which lanes there are:
//!
//! - More urgent levels come first. So that none starves, every [`limits::PRIORITY_AGING`]th start goes to the level
//!   that has waited longest.
//! - Within a level the workflows take turns, and within a workflow its lanes. One with a hundred thousand tasks gets
//!   the same turns as one with a single task.
//! - A lane whose limit is reached is set aside and costs nothing until a place is given back.
//!
//! A lane that is here may be empty, which is found out at its turn. A lane that is not here but should be would stand
//! still, so lanes leave only when the journal says that they are empty, and come back with a transaction that failed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use compozy_interpreter::Slot;
use compozy_plan::dispatch::{PRIORITY_DEFAULT, PRIORITY_FIRST, PRIORITY_LAST};

use crate::limits;

const LEVELS: usize = (PRIORITY_LAST - PRIORITY_FIRST + 1) as usize;

/// What the tasks of a lane have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// As the journal has it.
    pub(super) name: String,
    workflow: String,
    priority: u8,
    slots: Vec<Slot>,
}

impl Lane {
    pub(super) fn new(workflow: &str, priority: u8, slots: Vec<Slot>) -> Self {
        let priority = priority.clamp(PRIORITY_FIRST, PRIORITY_LAST);
        let pairs: Vec<(&str, u32)> = slots.iter().map(|slot| (slot.key.as_str(), slot.limit)).collect();
        let name = serde_json::to_string(&(priority, workflow, pairs)).expect("texts and numbers serialise");
        Self { name, workflow: workflow.to_owned(), priority, slots }
    }

    /// From its name. The rows of the first formats have a plugin's name there: those are lanes without limits.
    pub(super) fn of(name: String) -> Self {
        let Ok((priority, workflow, pairs)) = serde_json::from_str::<(u8, String, Vec<(String, u32)>)>(&name) else {
            return Self { workflow: name.clone(), name, priority: PRIORITY_DEFAULT, slots: Vec::new() };
        };
        let slots = pairs.into_iter().map(|(key, limit)| Slot { key, limit }).collect();
        Self { name, workflow, priority: priority.clamp(PRIORITY_FIRST, PRIORITY_LAST), slots }
    }

    fn level(&self) -> usize {
        usize::from(self.priority - PRIORITY_FIRST)
    }
}

/// The lanes of one priority that may be asked for their next task.
#[derive(Default)]
struct Level {
    /// Workflows in the order of their turns.
    turns: VecDeque<String>,
    lanes: HashMap<String, VecDeque<Arc<Lane>>>,
    /// When it had its last turn.
    served: u64,
}

impl Level {
    fn push(&mut self, lane: Arc<Lane>) {
        if let Some(lanes) = self.lanes.get_mut(&lane.workflow) {
            lanes.push_back(lane);
            return;
        }
        self.turns.push_back(lane.workflow.clone());
        self.lanes.insert(lane.workflow.clone(), VecDeque::from([lane]));
    }

    fn pop(&mut self) -> Option<Arc<Lane>> {
        let workflow = self.turns.pop_front()?;
        let lanes = self.lanes.get_mut(&workflow)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&workflow);
        } else {
            self.turns.push_back(workflow);
        }
        lane
    }
}

/// Who holds the places of one key, and who waits for one.
#[derive(Default)]
struct Gate {
    /// Tasks whose attempts run.
    holders: HashSet<i64>,
    /// Those that need the least room first, then in the order in which they came.
    aside: BTreeMap<(Reverse<u32>, u64), Arc<Lane>>,
}

impl Gate {
    fn has_room(&self, limit: u32) -> bool {
        self.holders.len() < limit as usize
    }
}

/// A change of a gate, for going back.
struct Change {
    key: String,
    task: i64,
    took: bool,
}

/// All lanes that have tasks, as far as memory goes.
pub(super) struct Lanes {
    levels: [Level; LEVELS],
    gates: HashMap<String, Gate>,
    /// The names of all lanes that are here, in a level or aside.
    known: HashSet<String>,
    known_max: usize,
    /// Lanes in the levels.
    waiting: usize,
    turn: u64,
    /// The journal has lanes that are not here.
    more: bool,
    /// Where to look on for them.
    cursor: String,
    /// No lane was turned away since the look began.
    complete: bool,
    changes: Vec<Change>,
    /// The lane that was given out, and whether a task was added to it since.
    in_hand: Option<(String, bool)>,
}

impl Lanes {
    /// What the journal has is not known yet.
    pub(super) fn new(known_max: usize) -> Self {
        Self {
            levels: std::array::from_fn(|_| Level::default()),
            gates: HashMap::new(),
            known: HashSet::new(),
            known_max,
            waiting: 0,
            turn: 0,
            more: true,
            cursor: String::new(),
            complete: true,
            changes: Vec::new(),
            in_hand: None,
        }
    }

    /// A task of this lane waits.
    pub(super) fn add(&mut self, lane: Arc<Lane>) {
        if let Some((name, added)) = &mut self.in_hand
            && *name == lane.name
        {
            *added = true;
        }
        if self.known.contains(&lane.name) {
            return;
        }
        if self.known.len() >= self.known_max {
            (self.more, self.complete) = (true, false);
            return;
        }
        self.known.insert(lane.name.clone());
        self.line_up(lane);
    }

    fn line_up(&mut self, lane: Arc<Lane>) {
        self.waiting += 1;
        self.levels[lane.level()].push(lane);
    }

    /// Takes back the lane that [`Self::next`] gave out: whether it may have more tasks.
    pub(super) fn put_back(&mut self, lane: Arc<Lane>, more: bool) {
        let added = self.in_hand.take().is_some_and(|(_, added)| added);
        if more || added {
            self.line_up(lane);
        } else {
            self.known.remove(&lane.name);
            self.let_others_in(&lane);
        }
    }

    /// The lane whose turn it is, and how many of its tasks may begin. It is given out until it is put back.
    pub(super) fn next(&mut self, free: usize) -> Option<(Arc<Lane>, usize)> {
        while self.waiting > 0 {
            let level = self.next_level()?;
            let lane = self.levels[level].pop()?;
            self.waiting -= 1;
            let Some(full) = lane.slots.iter().position(|slot| !self.has_room_for(slot)) else {
                self.turn += 1;
                self.levels[level].served = self.turn;
                // Who is alone need not take turns.
                let take = if self.waiting == 0 { self.room(&lane).min(free) } else { 1 };
                self.in_hand = Some((lane.name.clone(), false));
                return Some((lane, take));
            };
            self.set_aside(&lane, full);
        }
        None
    }

    fn next_level(&self) -> Option<usize> {
        let mut levels = (0..LEVELS).filter(|level| !self.levels[*level].turns.is_empty());
        if (self.turn + 1).is_multiple_of(limits::PRIORITY_AGING) {
            levels.min_by_key(|level| self.levels[*level].served)
        } else {
            levels.next()
        }
    }

    fn set_aside(&mut self, lane: &Arc<Lane>, full: usize) {
        let slot = &lane.slots[full];
        self.turn += 1;
        let place = (Reverse(slot.limit), self.turn);
        self.gates.entry(slot.key.clone()).or_default().aside.insert(place, Arc::clone(lane));
        // It may have been let in elsewhere, and does not use that.
        self.let_others_in(lane);
    }

    fn let_others_in(&mut self, lane: &Lane) {
        for slot in &lane.slots {
            self.let_in(&slot.key);
        }
    }

    /// Lets one lane go on that waits for this key, if there is room for it.
    fn let_in(&mut self, key: &str) {
        let Some(gate) = self.gates.get_mut(key) else { return };
        if let Some(first) = gate.aside.first_entry()
            && gate.holders.len() < first.key().0.0 as usize
        {
            let lane = first.remove();
            self.line_up(lane);
        }
        self.forget_idle(key);
    }

    fn forget_idle(&mut self, key: &str) {
        if self.gates.get(key).is_some_and(|gate| gate.holders.is_empty() && gate.aside.is_empty()) {
            self.gates.remove(key);
        }
    }

    fn has_room_for(&self, slot: &Slot) -> bool {
        self.gates.get(&slot.key).is_none_or(|gate| gate.has_room(slot.limit))
    }

    fn room(&self, lane: &Lane) -> usize {
        let room = |slot: &Slot| {
            let held = self.gates.get(&slot.key).map_or(0, |gate| gate.holders.len());
            (slot.limit as usize).saturating_sub(held)
        };
        lane.slots.iter().map(room).min().unwrap_or(usize::MAX)
    }

    /// True when a task of this lane may begin at once: nobody waits, and no limit is reached.
    pub(super) fn is_free_for(&self, lane: &Lane) -> bool {
        self.waiting == 0 && !self.more && lane.slots.iter().all(|slot| self.has_room_for(slot))
    }

    /// True when [`Self::next`] or [`Self::wants_more`] has something to do.
    pub(super) fn has_work(&self) -> bool {
        self.waiting > 0 || self.wants_more()
    }

    /// An attempt of a task begins.
    pub(super) fn take(&mut self, lane: &Lane, task: i64) {
        for slot in &lane.slots {
            if self.gates.entry(slot.key.clone()).or_default().holders.insert(task) {
                self.changes.push(Change { key: slot.key.clone(), task, took: true });
            }
        }
    }

    /// An attempt of a task is over.
    pub(super) fn give_back(&mut self, lane: &Lane, task: i64) {
        for slot in &lane.slots {
            let Some(gate) = self.gates.get_mut(&slot.key) else { continue };
            if gate.holders.remove(&task) {
                self.changes.push(Change { key: slot.key.clone(), task, took: false });
                self.let_in(&slot.key);
            }
        }
    }

    /// Where to go back to.
    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// What was taken and given back since then was not.
    pub(super) fn go_back(&mut self, mark: usize) {
        for Change { key, task, took } in self.changes.split_off(mark).into_iter().rev() {
            let gate = self.gates.entry(key.clone()).or_default();
            if took {
                gate.holders.remove(&task);
                self.let_in(&key);
            } else {
                gate.holders.insert(task);
            }
        }
    }

    /// It is durable.
    pub(super) fn keep(&mut self) {
        self.changes.clear();
    }

    /// The whole transaction failed: lanes that were found empty may not be.
    pub(super) fn look_again(&mut self) {
        self.go_back(0);
        // Its turn ended with the transaction.
        if let Some((name, _)) = self.in_hand.take() {
            self.known.remove(&name);
        }
        (self.more, self.complete) = (true, true);
        self.cursor.clear();
    }

    /// True when the journal should be asked for lanes that are not here.
    pub(super) fn wants_more(&self) -> bool {
        self.more && self.known.len() <= self.known_max / 2
    }

    /// The name after which to ask, unless there is no room.
    pub(super) fn cursor(&self) -> Option<&str> {
        (self.known.len() < self.known_max).then_some(self.cursor.as_str())
    }

    /// The next lane of the journal, or its end.
    pub(super) fn found(&mut self, lane: Option<Lane>) {
        if let Some(lane) = lane {
            self.cursor.clone_from(&lane.name);
            self.add(Arc::new(lane));
        } else {
            self.more = !self.complete;
            self.complete = true;
            self.cursor.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        let mut lanes = Lanes::new(100);
        lanes.found(None);
        lanes
    }

    fn slot(key: &str, limit: u32) -> Slot {
        Slot { key: key.to_owned(), limit }
    }

    fn lane(workflow: &str, priority: u8, slots: Vec<Slot>) -> Arc<Lane> {
        Arc::new(Lane::new(workflow, priority, slots))
    }

    /// The workflows of the next turns; no lane is ever empty.
    fn turns(lanes: &mut Lanes, count: usize) -> Vec<String> {
        let turn = |_| {
            let (lane, take) = lanes.next(1)?;
            assert_eq!(take, 1);
            lanes.put_back(Arc::clone(&lane), true);
            Some(lane.workflow.clone())
        };
        (0..count).map_while(turn).collect()
    }

    #[test]
    fn a_name_says_all_and_an_old_one_is_a_lane_of_its_own() {
        let lane = Lane::new("w", 2, vec![slot("key/\"a\"", 3)]);
        assert_eq!(lane.name, r#"[2,"w",[["key/\"a\"",3]]]"#);
        assert_eq!(Lane::of(lane.name.clone()), lane);
        let old = Lane::of("some-plugin".to_owned());
        assert_eq!((old.workflow.as_str(), old.priority, old.slots.len()), ("some-plugin", PRIORITY_DEFAULT, 0));
    }

    #[test]
    fn workflows_take_turns_whatever_the_number_of_their_lanes() {
        let mut lanes = lanes();
        for key in ["a", "b", "c"] {
            lanes.add(lane("many", 3, vec![slot(key, 9)]));
        }
        lanes.add(lane("one", 3, vec![]));
        assert_eq!(turns(&mut lanes, 6), ["many", "one", "many", "one", "many", "one"]);
    }

    #[test]
    fn urgent_lanes_come_first_and_the_others_do_not_starve() {
        let mut lanes = lanes();
        lanes.add(lane("last", 5, vec![]));
        lanes.add(lane("middle", 3, vec![]));
        lanes.add(lane("first", 1, vec![]));
        let turns = turns(&mut lanes, 10 * usize::try_from(limits::PRIORITY_AGING).unwrap());
        assert!(turns[..10].iter().all(|workflow| workflow == "first"), "{turns:?}");
        let count = |name: &str| turns.iter().filter(|workflow| *workflow == name).count();
        assert!(count("middle") >= 3 && count("last") >= 3, "{turns:?}");
        assert!(count("first") >= turns.len() - 10, "{turns:?}");
    }

    #[test]
    fn a_lane_at_its_limit_is_set_aside_until_a_place_is_given_back() {
        let mut lanes = lanes();
        let (a, b) = (lane("w", 3, vec![slot("a", 2)]), lane("w", 3, vec![slot("b", 1)]));
        lanes.add(Arc::clone(&a));
        let (next, take) = lanes.next(8).unwrap();
        assert_eq!((&next, take), (&a, 2), "no more than there is room for");
        lanes.take(&next, 1);
        lanes.take(&next, 2);
        lanes.put_back(next, true);
        assert!(lanes.next(8).is_none() && !lanes.has_work(), "nothing to look at while it is full");
        assert!(lanes.is_free_for(&b) && !lanes.is_free_for(&a));
        lanes.add(Arc::clone(&b));
        assert_eq!(lanes.next(8).unwrap(), (Arc::clone(&b), 1));
        lanes.put_back(b, false);
        lanes.give_back(&a, 1);
        lanes.give_back(&a, 1);
        assert_eq!(lanes.next(8).unwrap(), (a, 1), "one place, however often it is given back");
    }

    #[test]
    fn who_is_let_in_and_does_not_use_it_lets_the_next_in() {
        let mut lanes = lanes();
        let plugin = || slot("plugin", 1);
        let busy = lane("x", 3, vec![slot("tenant", 1), plugin()]);
        let (both, next) = (lane("w", 3, vec![plugin(), slot("tenant", 1)]), lane("v", 3, vec![plugin()]));
        lanes.take(&busy, 1);
        lanes.add(Arc::clone(&both));
        lanes.add(Arc::clone(&next));
        assert!(lanes.next(8).is_none());
        // The tenant is taken again before the plugin's place is free.
        lanes.take(&lane("y", 3, vec![slot("tenant", 1)]), 2);
        lanes.give_back(&lane("x", 3, vec![plugin()]), 1);
        assert_eq!(lanes.next(8).unwrap().0, next, "the first waits for its tenant now");
        lanes.put_back(next, false);
        lanes.give_back(&busy, 1);
        assert!(lanes.next(8).is_none(), "task 2 holds the tenant");
        lanes.give_back(&busy, 2);
        assert_eq!(lanes.next(8).unwrap().0, both);
    }

    #[test]
    fn a_task_that_comes_while_its_lane_is_given_out_is_not_forgotten() {
        let mut lanes = lanes();
        let a = lane("w", 3, vec![]);
        lanes.add(Arc::clone(&a));
        let (next, _) = lanes.next(8).unwrap();
        lanes.add(Arc::clone(&a));
        lanes.put_back(next, false);
        assert_eq!(lanes.next(8).unwrap().0, a);
        lanes.put_back(a, false);
        assert!(lanes.next(8).is_none() && lanes.known.is_empty());
    }

    #[test]
    fn going_back_restores_the_places() {
        let mut lanes = lanes();
        let a = lane("w", 3, vec![slot("a", 1)]);
        lanes.take(&a, 1);
        lanes.keep();
        let mark = lanes.mark();
        lanes.give_back(&a, 1);
        lanes.take(&a, 2);
        lanes.go_back(mark);
        assert!(!lanes.is_free_for(&a));
        lanes.give_back(&a, 2);
        assert!(!lanes.is_free_for(&a), "task 2 holds nothing");
        lanes.give_back(&a, 1);
        assert!(lanes.is_free_for(&a) && lanes.gates.is_empty());
    }

    #[test]
    fn after_a_failed_transaction_every_lane_of_the_journal_comes_back() {
        let mut lanes = lanes();
        let (a, b) = (lane("a", 3, vec![slot("k", 1)]), lane("b", 3, vec![]));
        lanes.add(Arc::clone(&a));
        lanes.add(Arc::clone(&b));
        // One was found empty, the other is given out when storage fails.
        let (first, _) = lanes.next(8).unwrap();
        lanes.take(&first, 1);
        lanes.put_back(first, false);
        assert_eq!(lanes.next(8).unwrap().0, b);
        lanes.look_again();
        assert!(lanes.wants_more());
        for name in [&a.name, &b.name] {
            lanes.found(Some(Lane::of(name.clone())));
        }
        lanes.found(None);
        let mut found: Vec<_> = std::iter::from_fn(|| {
            let (lane, _) = lanes.next(8)?;
            lanes.put_back(Arc::clone(&lane), false);
            Some(lane.workflow.clone())
        })
        .collect();
        found.sort();
        assert_eq!(found, ["a", "b"]);
    }

    #[test]
    fn beyond_its_bound_lanes_wait_in_the_journal_and_none_is_forgotten() {
        let mut journal: std::collections::BTreeSet<String> =
            (0..25).map(|n| Lane::new(&format!("w{n:02}"), 3, vec![]).name).collect();
        let mut lanes = Lanes::new(10);
        let mut served = 0;
        while lanes.has_work() {
            while lanes.wants_more() {
                let Some(cursor) = lanes.cursor() else { break };
                let next = journal.iter().find(|name| name.as_str() > cursor).cloned();
                lanes.found(next.map(Lane::of));
            }
            assert!(lanes.known.len() <= 10);
            let (lane, _) = lanes.next(1).unwrap();
            journal.remove(&lane.name);
            lanes.put_back(lane, false);
            served += 1;
            if served == 5 {
                // One that comes while there is no room.
                journal.insert(Lane::new("a", 3, vec![]).name);
                lanes.add(super::tests::lane("a", 3, vec![]));
            }
        }
        assert_eq!((served, journal.len()), (26, 0));
    }
}
