//! Checks that need more than one task: ids, targets, reachability, and what templates read.

use std::collections::BTreeMap;

use super::task::Entry;
use super::{Around, Builder, Place, Use};
use crate::plan::{Task, TaskKind};
use crate::suggest::{cut, hint};
use crate::yaml::Node;

/// What templates and conditions can read.
pub(super) const ROOTS: [&str; 10] =
    ["workflow", "task", "tasks", "input", "with", "item", "index", "parent", "env", "project"];

/// What the full format has beside it.
const ROOTS_UNSUPPORTED: [&str; 8] = ["current", "trigger", "tools", "agents", "state", "payload", "headers", "query"];

impl Builder<'_> {
    /// Reads a list of tasks and checks that they fit together. `what` owns the list.
    pub(super) fn list(&mut self, nodes: &[Node], around: &Around, what: &str) -> Vec<Task> {
        let mut entries = Vec::new();
        let mut lifted = Vec::new();
        for node in nodes {
            if let Some(entry) = self.task(node, around, &mut lifted) {
                entries.push(entry);
            }
        }
        // What was lifted out of routes follows; the last task of the file must not fall into it.
        if !lifted.is_empty()
            && around.place != Place::Alone
            && let Some(last) = entries.last_mut()
            && !goes_elsewhere(&last.task)
        {
            last.task.is_final = true;
        }
        entries.append(&mut lifted);
        self.ids_and_targets(&entries, what);
        // Tasks that stand alone all begin by themselves.
        if !self.problems.has_errors() && around.place != Place::Alone {
            self.reachability(&entries);
        }
        entries.into_iter().map(|entry| entry.task).collect()
    }

    fn ids_and_targets(&mut self, entries: &[Entry], what: &str) {
        let mut seen = BTreeMap::new();
        for entry in entries {
            let id = entry.task.id.as_str();
            if let Some(first) = seen.get(id).copied() {
                let first: crate::diagnostic::Position = first;
                self.problems
                    .error(
                        entry.at,
                        "PLAN_DUPLICATE_ID",
                        format!("the task id `{}` is already at line {}, column {}", cut(id), first.line, first.column),
                    )
                    .value(id)
                    .help("give each task its own id");
            } else {
                seen.insert(id, entry.at);
            }
        }
        let ids: Vec<&str> = seen.keys().copied().collect();
        for entry in entries {
            for (target, at, key) in &entry.targets {
                if seen.contains_key(target.as_str()) {
                    continue;
                }
                let elsewhere = self.ids.contains(target);
                let help = if elsewhere {
                    format!("`{}` is a task of another list; a task can only go to tasks of its own list", cut(target))
                } else {
                    hint(target, "tasks there", &ids)
                };
                let field = if *key == "routes" { "a route".to_owned() } else { format!("`{key}.next`") };
                let message = format!(
                    "{field} of the task `{}` goes to `{}`, which is not among the tasks of {what}",
                    cut(&entry.task.id),
                    cut(target)
                );
                self.problems.error(*at, "PLAN_UNKNOWN_TASK", message).value(target).help(help);
            }
        }
    }

    /// Warns of tasks that nothing leads to.
    fn reachability(&mut self, entries: &[Entry]) {
        let places: BTreeMap<&str, usize> =
            entries.iter().enumerate().map(|(at, entry)| (entry.task.id.as_str(), at)).collect();
        let mut reached = vec![false; entries.len()];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            let Some(entry) = entries.get(at) else { continue };
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            open.extend(entry.targets.iter().filter_map(|(target, _, _)| places.get(target.as_str()).copied()));
            let success = !entry.task.is_final && !goes_elsewhere(&entry.task);
            // An `on_error` without a target keeps the order, too.
            let error = entry.task.on_error.as_ref().is_some_and(|to| to.next.is_none());
            if success || error {
                open.push(at + 1);
            }
        }
        for (entry, reached) in entries.iter().zip(reached) {
            if !reached {
                self.problems
                    .warning(
                        entry.at,
                        "PLAN_UNREACHABLE_TASK",
                        format!("nothing leads to the task `{}`, so it never runs", entry.task.id),
                    )
                    .value(&entry.task.id)
                    .help("name it in `on_success.next`, `on_error.next` or a route, or remove it");
            }
        }
    }

    /// Checks what templates and conditions read, when all tasks are known.
    pub(super) fn check_uses(&mut self) {
        for used in std::mem::take(&mut self.uses) {
            self.check_use(&used);
        }
    }

    fn check_use(&mut self, used: &Use) {
        let root = used.path[0].as_str();
        let what = &used.what;
        if used.variables.iter().any(|variable| variable == root) {
            return;
        }
        if matches!(root, "signal" | "processor") {
            self.problems
                .error(
                    used.at,
                    "PLAN_UNKNOWN_VARIABLE",
                    format!("{what}: `{root}` exists only in the `condition` and the `processor` of a wait"),
                )
                .value(root)
                .help("read the wait's output instead: `tasks.<id>.output.signal.payload`");
            return;
        }
        if matches!(root, "item" | "index") {
            self.problems
                .error(
                    used.at,
                    "PLAN_UNKNOWN_VARIABLE",
                    format!("{what}: `{root}` exists only in the `filter` and the `task` of a collection"),
                )
                .value(root)
                .help("move it there, or read another value");
            return;
        }
        if root == "tasks" {
            self.check_task_use(used);
            return;
        }
        if ROOTS.contains(&root) || root == "output" {
            return;
        }
        if ROOTS_UNSUPPORTED.contains(&root) {
            self.problems
                .error(used.at, "PLAN_UNSUPPORTED", format!("{what}: the variable `{root}` is not yet supported"))
                .value(root)
                .help("there are workflow, task, tasks, input, with, parent, env, project and output");
            return;
        }
        let mut names: Vec<&str> = ROOTS.iter().copied().filter(|name| !matches!(*name, "item" | "index")).collect();
        names.push("output");
        names.extend(used.variables.iter().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        self.problems
            .error(used.at, "PLAN_UNKNOWN_VARIABLE", format!("{what}: there is no variable `{}`", cut(root)))
            .value(root)
            .help(hint(root, "variables", &names));
    }

    fn check_task_use(&mut self, used: &Use) {
        let Some(id) = used.path.get(1).filter(|id| !self.ids.contains(*id)) else { return };
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        let hyphenated = format!("{id}-");
        let help = match ids.iter().find(|known| used.condition && known.starts_with(&hyphenated)) {
            Some(whole) => format!("in a condition a name with a hyphen is written in brackets: `tasks[\"{whole}\"]`"),
            None => hint(id, "tasks", &ids),
        };
        self.problems
            .error(used.at, "PLAN_UNKNOWN_TASK", format!("{}: there is no task `{}`", used.what, cut(id)))
            .value(id)
            .help(help);
    }
}

/// Whether success leads somewhere else than to the next task of the list.
fn goes_elsewhere(task: &Task) -> bool {
    matches!(task.kind, TaskKind::Router { .. }) || task.on_success.as_ref().is_some_and(|to| to.next.is_some())
}
