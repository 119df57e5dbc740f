//! What may begin: Temporal bounds what is under way, what one message has, and how long one history is.

use std::collections::VecDeque;

use compozy_engine::limits::INLINE_BYTES_MAX;
use compozy_engine::request::json_bytes;
use compozy_interpreter::{Command, Event, TaskKey};

use crate::limits::{HISTORY_BYTES_MUST, HISTORY_EVENTS_MUST, UNDER_WAY_BYTES_MAX, UNDER_WAY_MAX};
use crate::workflow::Machine;

impl Machine {
    /// Does what one command asks for, at once or when there is room. What cannot be done comes back as an event.
    pub(crate) fn obey(&mut self, command: Command, events: &mut VecDeque<Event>) {
        match given(&command) {
            None => self.carry_out(command, 0, events),
            Some(given) if self.deferred.is_empty() && self.has_room(given) => self.begin(command, given, events),
            Some(_) => self.deferred.push_back(command),
        }
    }

    fn has_room(&self, given: usize) -> bool {
        let (count, bytes) = self.pending.under_way();
        let room = count < UNDER_WAY_MAX && (count == 0 || bytes + inline(given) <= UNDER_WAY_BYTES_MAX);
        room && !self.history_is_full()
    }

    fn begin(&mut self, command: Command, given: usize, events: &mut VecDeque<Event>) {
        self.bytes += inline(given) as u64;
        let before = self.pending.under_way().0;
        self.carry_out(command, given, events);
        if self.pending.under_way().0 > before {
            self.pending.weigh_last(inline(given));
        }
    }

    /// Begins what had to wait for others to end.
    pub(crate) fn take_deferred(&mut self, events: &mut VecDeque<Event>) {
        while let Some(given) = self.deferred.front().and_then(given).filter(|given| self.has_room(*given)) {
            let Some(command) = self.deferred.pop_front() else { return };
            self.begin(command, given, events);
        }
    }

    /// Forgets what was to begin later.
    pub(crate) fn undefer(&mut self, key: &TaskKey) -> bool {
        let before = self.deferred.len();
        self.deferred.retain(|command| match command {
            Command::ScheduleTask { task, .. }
            | Command::StartChild { task, .. }
            | Command::SendSignal { task, .. } => task != key,
            _ => true,
        });
        self.deferred.len() < before
    }

    /// Whether the run goes on in a new history now.
    pub(crate) fn history_is_due(&self) -> bool {
        let quiet = !self.pending.is_busy() && self.ctx.state(|run| run.inbox.is_empty());
        quiet && self.history_is_long() && !self.is_over()
    }

    fn history_is_long(&self) -> bool {
        let due = self.ctx.state(|run| run.shared.history_events);
        self.ctx.continue_as_new_suggested()
            || self.ctx.history_length() >= due
            || self.history_bytes() >= HISTORY_BYTES_MUST
    }

    /// Whether nothing may begin until the run goes on in a new history: at once when nothing else is under way, and when
    /// it cannot wait any more.
    fn history_is_full(&self) -> bool {
        (self.history_is_long() && !self.pending.is_busy())
            || self.ctx.history_length() >= HISTORY_EVENTS_MUST
            || self.history_bytes() >= HISTORY_BYTES_MUST
    }

    /// Arguments and answers in this history, in bytes. Temporal knows it better and does not tell.
    fn history_bytes(&self) -> u64 {
        self.bytes + self.driver(|driver| driver.book.bytes.saturating_sub(self.known_bytes))
    }
}

/// What a command gives to what it begins, in bytes; `None` when it begins nothing.
fn given(command: &Command) -> Option<usize> {
    match command {
        Command::ScheduleTask { input, .. } | Command::StartChild { input, .. } => Some(json_bytes(input)),
        Command::SendSignal { signal, .. } => Some(json_bytes(&signal.payload)),
        _ => None,
    }
}

/// What of it is in the history: what is put away first is a reference.
fn inline(given: usize) -> usize {
    if given > INLINE_BYTES_MAX { 0 } else { given }
}
