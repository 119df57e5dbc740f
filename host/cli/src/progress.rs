//! What a person sees while a workflow runs: one line per task, as it ends.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use compozy_engine::port::{Execution, ExecutionId, Notice, Ran, TaskRecord};
use compozy_interpreter::Status;
use compozy_plan::plan::{Plan, Task, TaskKind};

use crate::output::say;
use crate::render::printable;

/// The column of task keys is not wider, in characters.
const TASK_WIDTH_MAX: usize = 40;
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";

/// Prints the progress of one execution on standard error.
pub(crate) struct Progress {
    id: ExecutionId,
    width: usize,
    colour: bool,
    quiet: bool,
    shown: BTreeSet<String>,
}

impl Progress {
    pub(crate) fn new(id: ExecutionId, plan: &Plan, quiet: bool) -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let width = key_width(&plan.tasks).clamp(8, TASK_WIDTH_MAX);
        Self { id, width, colour, quiet, shown: BTreeSet::new() }
    }

    /// Prints what a notice tells, if it is about this execution.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::TaskEnded { id, task, kind, status, ran, attempts } if *id == self.id => {
                let line = self.task_line(task, kind, *status, ran.as_ref(), *attempts);
                self.show(task, &line);
            }
            Notice::AttemptFailed { id, task, attempt, failure, retry_in_ms } if *id == self.id && !self.quiet => {
                let mark = self.paint(YELLOW, "retry");
                let why = printable(&failure.message);
                let wait = millis(retry_in_ms.saturating_mul(1_000));
                say(&format!(
                    "  {mark}  {task}: attempt {attempt} failed with {}: {why}; again in {wait}",
                    failure.code
                ));
            }
            _ => {}
        }
    }

    /// Prints the tasks that no notice told of, and one line for the whole run.
    pub(crate) fn end(&mut self, execution: &Execution, wall_ms: u128) {
        for (key, task) in &execution.state.tasks {
            if !task.status.is_terminal() || self.shown.contains(&key.0) {
                continue;
            }
            let record = execution.attempts.get(&key.0).cloned().unwrap_or_default();
            let TaskRecord { attempts, ran, .. } = record;
            let line = self.task_line(&key.0, &task.kind, task.status, ran.as_ref(), attempts);
            self.show(&key.0, &line);
        }
        if self.quiet {
            return;
        }
        let status = self.paint(colour_of(execution.state.status), status_text(execution.state.status));
        let tasks = execution.state.tasks.len();
        say(&format!("{status}  {}  {tasks} tasks in {wall_ms} ms, execution {}", execution.workflow, execution.id));
    }

    fn show(&mut self, task: &str, line: &str) {
        if self.shown.insert(task.to_owned()) && !self.quiet {
            say(line);
        }
    }

    fn task_line(&self, task: &str, kind: &str, status: Status, ran: Option<&Ran>, attempts: u32) -> String {
        let mark = match status {
            Status::Success => self.paint(GREEN, "ok   "),
            _ => self.paint(RED, "fail "),
        };
        let (task, width) = (printable(task), self.width);
        let mut line = format!("  {mark}  {task:<width$}  {kind:<10}");
        if let Some(ran) = ran {
            let plugin = format!("{}@{}", ran.plugin, ran.version);
            let (time, fuel) = (millis(ran.wall_us), count(ran.fuel));
            line += &format!("  {plugin:<16}  {time:>9}  {fuel:>9} fuel");
        }
        if attempts > 1 {
            line += &format!("  {attempts} attempts");
        }
        line.trim_end().to_owned()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A status as JSON spells it.
pub(crate) fn status_text(status: Status) -> &'static str {
    match status {
        Status::Pending => "PENDING",
        Status::Running => "RUNNING",
        Status::Waiting => "WAITING",
        Status::Paused => "PAUSED",
        Status::Success => "SUCCESS",
        Status::Failed => "FAILED",
        Status::TimedOut => "TIMED_OUT",
        Status::Canceled => "CANCELED",
    }
}

fn colour_of(status: Status) -> &'static str {
    if status == Status::Success { GREEN } else { RED }
}

/// The longest key that the tasks can have; items of a collection with two digits.
fn key_width(tasks: &[Task]) -> usize {
    let one = |task: &Task| {
        let id = task.id.chars().count();
        match &task.kind {
            TaskKind::Composite { tasks } => id + 1 + key_width(tasks),
            TaskKind::Parallel(parallel) => id + 1 + key_width(&parallel.tasks),
            TaskKind::Collection(collection) => id + 4 + nested_width(&collection.task),
            _ => id,
        }
    };
    tasks.iter().map(one).max().unwrap_or(0)
}

/// What the task of an item adds to the key `collection[n]`.
fn nested_width(task: &Task) -> usize {
    match &task.kind {
        TaskKind::Composite { tasks } => 1 + key_width(tasks),
        TaskKind::Parallel(parallel) => 1 + key_width(&parallel.tasks),
        TaskKind::Collection(collection) => 4 + nested_width(&collection.task),
        _ => 0,
    }
}

/// Microseconds for a person.
pub(crate) fn millis(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A large number for a person.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..10_000_000 => format!("{:.1} k", n as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.1} G", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (us, text) in [(0, "0 us"), (999, "999 us"), (1_500, "1.5 ms"), (12_345_678, "12.3 s")] {
            assert_eq!(millis(us), text);
        }
        for (n, text) in [(9_999, "9999"), (10_000, "10.0 k"), (12_300_000, "12.3 M"), (99_000_000_000, "99.0 G")] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn a_line_is_aligned_and_names_who_ran() {
        let progress =
            Progress { id: ExecutionId("x".into()), width: 8, colour: false, quiet: false, shown: BTreeSet::new() };
        let ran =
            Ran { plugin: "weather".into(), version: "0.1.0".into(), digest: "d".into(), fuel: 12_345, wall_us: 1_500 };
        assert_eq!(
            progress.task_line("ask", "basic", Status::Success, Some(&ran), 2),
            "  ok     ask       basic       weather@0.1.0        1.5 ms     12.3 k fuel  2 attempts"
        );
        assert_eq!(progress.task_line("sum", "aggregate", Status::Failed, None, 0), "  fail   sum       aggregate");
    }
}
