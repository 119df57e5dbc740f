//! Tasks that lead to other tasks: router, parallel, collection and composite.

use indexmap::IndexMap;

use super::task::Entry;
use super::{Around, Builder, Place};
use crate::limits::{COLLECTION_PARALLEL_DEFAULT, COLLECTION_PARALLEL_MAX, ID_CHARS_MAX};
use crate::plan::{Collection, Parallel, Strategy, TaskKind};
use crate::reader::{Fields, wrong_type};
use crate::suggest::cut;
use crate::yaml::{Data, Node};

impl Builder<'_> {
    pub(super) fn router(
        &mut self,
        fields: &mut Fields<'_>,
        around: &Around,
        entry: &mut Entry,
        lifted: &mut Vec<Entry>,
    ) -> Option<TaskKind> {
        let what = fields.what.clone();
        let condition = if let Some(node) = fields.take("condition") {
            self.condition(node, &format!("`condition` of {what}"), around)
        } else {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is a router and has no `condition`"))
                .help("write a CEL expression whose value is one of the routes: `condition: input.kind`");
            None
        };
        if around.place == Place::Alone {
            self.problems
                .error(
                    fields.at,
                    "PLAN_CONTRADICTION",
                    format!("{what} stands alone, so there is no list with tasks that its routes could lead to"),
                )
                .help("make the task around it a composite with the router and its routes in it");
        }
        if entry.task.on_success.is_some() || entry.task.is_final {
            self.problems
                .error(fields.at, "PLAN_CONTRADICTION", format!("{what} is a router: it goes where its routes say"))
                .help("remove `on_success` and `final`; `on_error` may stay");
        }
        let routes = fields.fields("routes", self.problems);
        let mut targets = IndexMap::new();
        for (key, node) in routes.into_iter().flat_map(Fields::into_entries) {
            if let Some(target) = self.route(&what, &key.name, node, around, entry, lifted) {
                targets.insert(key.name.clone(), target);
            }
        }
        if !fields.has("routes")
            || matches!(fields.take("routes").map(|node| &node.data), Some(Data::Map(routes)) if routes.is_empty())
        {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is a router and has no `routes`"))
                .help("write the task for each value: `routes: {yes: task-a, no: task-b}`");
        }
        Some(TaskKind::Router { condition: condition?, routes: targets })
    }

    /// One route: the id of a task, or a task written out, which moves into the list.
    fn route(
        &mut self,
        what: &str,
        value: &str,
        node: &Node,
        around: &Around,
        entry: &mut Entry,
        lifted: &mut Vec<Entry>,
    ) -> Option<String> {
        match &node.data {
            Data::Text(id) => {
                entry.targets.push((id.clone(), node.at, "routes"));
                Some(id.clone())
            }
            Data::Map(_) => {
                // The router counts as an ancestor: a task that is its own route would never end.
                let mut inside = around.clone();
                inside.ancestors.push(entry.task.id.clone());
                let mut task = self.task(node, &inside, lifted)?;
                let goes_on = task.task.on_success.as_ref().is_some_and(|to| to.next.is_some());
                task.task.is_final |= !goes_on && !matches!(task.task.kind, TaskKind::Router { .. });
                let id = task.task.id.clone();
                entry.targets.push((id.clone(), task.at, "routes"));
                lifted.push(task);
                Some(id)
            }
            _ => {
                wrong_type(
                    self.problems,
                    node,
                    &format!("the route `{}` of {what}", cut(value)),
                    "the id of a task or a task",
                );
                None
            }
        }
    }

    pub(super) fn composite(&mut self, fields: &mut Fields<'_>, inside: &Around) -> Option<TaskKind> {
        let what = fields.what.clone();
        if let Some(node) = fields.take("strategy") {
            self.problems
                .error(
                    node.at,
                    "PLAN_CONTRADICTION",
                    format!("{what}: a composite has no `strategy`: it stops at the first task that fails"),
                )
                .help("remove it");
        }
        let there = fields.has("tasks");
        let nodes = fields.list("tasks", self.problems);
        if !there || nodes.is_some_and(|(nodes, _)| nodes.is_empty()) {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is a composite and has no `tasks`"))
                .help("add at least one task under its `tasks`");
            return None;
        }
        let inside = Around { place: Place::Composite, ..inside.clone() };
        let tasks = self.list(nodes?.0, &inside, &what);
        Some(TaskKind::Composite { tasks })
    }

    pub(super) fn parallel_task(&mut self, fields: &mut Fields<'_>, inside: &Around) -> Option<TaskKind> {
        let what = fields.what.clone();
        let there = fields.has("tasks");
        let nodes = fields.list("tasks", self.problems);
        let workers = fields.integer("max_workers", 1, u64::from(u32::MAX), self.problems);
        let strategy = self.strategy(fields);
        if !there || nodes.is_some_and(|(nodes, _)| nodes.is_empty()) {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is parallel and has no `tasks`"))
                .help("add at least one task under its `tasks`");
            return None;
        }
        let inside = Around { place: Place::Alone, ..inside.clone() };
        let tasks = self.list(nodes?.0, &inside, &what);
        let parallel = workers
            .and_then(|(count, _)| u32::try_from(count).ok())
            .map_or(COLLECTION_PARALLEL_MAX, |count| count.min(COLLECTION_PARALLEL_MAX));
        Some(TaskKind::Parallel(Box::new(Parallel { tasks, parallel, strategy })))
    }

    pub(super) fn collection(&mut self, fields: &mut Fields<'_>, inside: &Around) -> Option<TaskKind> {
        let what = fields.what.clone();
        let outside = inside.clone();
        let item_var = self.variable(fields, "item_var", "item");
        let index_var = self.variable(fields, "index_var", "index");
        if item_var == index_var {
            self.problems.error(
                fields.at,
                "PLAN_CONTRADICTION",
                format!("{what}: `item_var` and `index_var` are both `{item_var}`"),
            );
        }
        let mut inside = Around { place: Place::Alone, ..inside.clone() };
        inside.variables.extend([item_var.clone(), index_var.clone(), "item".to_owned(), "index".to_owned()]);
        let items = if let Some(node) = fields.take("items") {
            match &node.data {
                Data::List(_) => self.template(node, &format!("`items` of {what}"), &outside),
                Data::Text(text) if text.contains("{{") => self.template(node, &format!("`items` of {what}"), &outside),
                _ => {
                    wrong_type(self.problems, node, &format!("`items` of {what}"), "a list or a template");
                    None
                }
            }
        } else {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is a collection and has no `items`"))
                .help("write a list or a template of one: `items: \"{{ .input.cities }}\"`");
            None
        };
        let filter =
            fields.take("filter").and_then(|node| self.condition(node, &format!("`filter` of {what}"), &inside));
        let parallel = self.parallel(fields);
        let strategy = self.strategy(fields);
        let Some(node) = fields.take("task") else {
            self.problems
                .error(fields.at, "PLAN_MISSING_KEY", format!("{what} is a collection and has no `task`"))
                .help("write the task for each item under `task`");
            return None;
        };
        let mut lifted = Vec::new();
        let task = self.task(node, &inside, &mut lifted)?.task;
        Some(TaskKind::Collection(Box::new(Collection {
            items: items?,
            filter,
            item_var,
            index_var,
            parallel,
            strategy,
            task,
        })))
    }

    /// The name of a variable, which conditions must be able to spell.
    fn variable(&mut self, fields: &mut Fields<'_>, key: &'static str, default: &str) -> String {
        let Some((name, node)) = fields.text(key, self.problems) else { return default.to_owned() };
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !plain || name.len() > ID_CHARS_MAX {
            self.problems
                .error(node.at, "PLAN_INVALID_ID", format!("`{key}` of {} cannot be `{}`", fields.what, cut(name)))
                .value(name)
                .help("use letters, digits and `_`, and do not begin with a digit");
        } else if super::check::ROOTS.contains(&name) && name != default {
            self.problems
                .error(node.at, "PLAN_INVALID_ID", format!("`{key}` of {}: the name `{name}` is taken", fields.what))
                .value(name)
                .help("choose a name that templates do not have already");
        }
        name.to_owned()
    }

    /// How many children may run at once.
    fn parallel(&mut self, fields: &mut Fields<'_>) -> u32 {
        let mode = fields.word("mode", &["parallel", "sequential"], self.problems);
        let max = u64::from(u32::MAX);
        let workers = fields.integer("max_workers", 1, max, self.problems).map(|(count, _)| count);
        let batch = fields.integer("batch", 1, max, self.problems).map(|(count, _)| count);
        if matches!(mode, Some(("sequential", _))) {
            return 1;
        }
        let wanted = workers.into_iter().chain(batch).min().unwrap_or(u64::from(COLLECTION_PARALLEL_DEFAULT));
        u32::try_from(wanted).unwrap_or(COLLECTION_PARALLEL_MAX).min(COLLECTION_PARALLEL_MAX)
    }

    fn strategy(&mut self, fields: &mut Fields<'_>) -> Strategy {
        match fields.word("strategy", &["wait_all", "best_effort", "fail_fast", "race"], self.problems) {
            Some(("best_effort", _)) => Strategy::BestEffort,
            Some(("fail_fast", _)) => Strategy::FailFast,
            Some(("race", _)) => Strategy::Race,
            _ => Strategy::WaitAll,
        }
    }
}
