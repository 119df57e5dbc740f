//! An execution as a tree of tasks for a person, from the document that a host answers.

use std::collections::{BTreeMap, HashMap};

use compozy_server::time::parse_rfc3339;
use serde_json::Value;

use crate::render::printable;

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const BLUE: &str = "36";
const GREY: &str = "90";
/// The column of names is not wider, in characters.
const NAME_WIDTH_MAX: usize = 48;

/// How a tree is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Characters of one line.
    pub(crate) width: usize,
    /// Lines.
    pub(crate) height: usize,
    pub(crate) colour: bool,
    /// Whether the terminal shows more than ASCII.
    pub(crate) unicode: bool,
}

/// One line before it is cut and coloured.
struct Line {
    colour: &'static str,
    glyph: &'static str,
    text: String,
    /// May be left out when there is no room.
    ended: bool,
}

/// The tree as lines. `beats` is what tasks that run said last, by key.
pub(crate) fn lines(document: &Value, now_ms: u64, beats: &HashMap<String, String>, style: Style) -> Vec<String> {
    let mut all = vec![head(document, now_ms, style)];
    let tasks: Vec<Task<'_>> = document["tasks"].as_array().into_iter().flatten().map(Task).collect();
    let parents: HashMap<&str, &str> =
        tasks.iter().filter_map(|task| Some((task.key(), task.text("parent")?))).collect();
    let name_of = |task: &Task<'_>| {
        let depth = std::iter::successors(parents.get(task.key()), |key| parents.get(**key)).count();
        let name = task.text("parent").and_then(|parent| task.key().strip_prefix(parent)).unwrap_or(task.key());
        format!("{}{}", "  ".repeat(depth), printable(name.trim_start_matches('/')))
    };
    let width = tasks.iter().map(|task| name_of(task).chars().count()).max().unwrap_or(0).min(NAME_WIDTH_MAX);
    for task in in_order(&tasks) {
        let beat = beats.get(task.key()).map(String::as_str);
        all.push(task.line(&name_of(task), width, now_ms, beat, style));
    }
    if let Some(failure) = document["failure"].as_object() {
        let text = |name: &str| printable(failure.get(name).and_then(Value::as_str).unwrap_or_default());
        let text = format!("{}: {}", text("code"), text("message"));
        all.push(Line { colour: RED, glyph: " ", text, ended: false });
    }
    fit(all, style).iter().map(|line| paint(line, style)).collect()
}

/// Children after what they belong to, as the run came to them.
fn in_order<'a, 'd>(tasks: &'a [Task<'d>]) -> Vec<&'a Task<'d>> {
    let mut children: BTreeMap<Option<&str>, Vec<&Task<'_>>> = BTreeMap::new();
    for task in tasks {
        children.entry(task.text("parent")).or_default().push(task);
    }
    let mut stack: Vec<&Task<'_>> = children.remove(&None).unwrap_or_default();
    stack.reverse();
    let mut order = Vec::with_capacity(tasks.len());
    while let Some(task) = stack.pop() {
        order.push(task);
        stack.extend(children.remove(&Some(task.key())).unwrap_or_default().into_iter().rev());
    }
    order
}

fn head(document: &Value, now_ms: u64, style: Style) -> Line {
    let text = |name: &str| printable(document[name].as_str().unwrap_or_default());
    let status = text("status");
    let (colour, glyph, _) = mark(&status, false, style.unicode);
    let took = time_between(document["started_at"].as_str(), document["ended_at"].as_str(), now_ms);
    let tasks = document["tasks"].as_array().map_or(0, Vec::len);
    let text = format!("{}  {}  {status}  {took}  {tasks} tasks", text("workflow_id"), text("exec_id"));
    Line { colour, glyph, text, ended: false }
}

/// A task of the document.
struct Task<'a>(&'a Value);

impl<'a> Task<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0[name].as_str()
    }

    fn key(&self) -> &'a str {
        self.text("task").unwrap_or_default()
    }

    fn status(&self) -> &'a str {
        self.text("status").unwrap_or_default()
    }

    fn line(&self, name: &str, width: usize, now_ms: u64, beat: Option<&str>, style: Style) -> Line {
        let skipped = self.0["skipped"] == true;
        let (mut colour, mut glyph, ended) = mark(self.status(), skipped, style.unicode);
        let kind = self.text("type").unwrap_or_default();
        let took = time_between(self.text("started_at"), self.text("ended_at"), now_ms);
        let mut text = format!("{name:<width$}  {kind:<10}  {took:>9}");
        let attempts = self.0["attempts"].as_u64().unwrap_or_default();
        if attempts > 1 {
            text += &format!("  attempt {attempts}");
        }
        if let Some(wait) = self.retry_wait(now_ms) {
            text += &format!("  again in {wait}");
            (colour, glyph) = (YELLOW, if style.unicode { "\u{21bb}" } else { "~" });
        }
        let why = match (ended, self.0["failure"].as_object()) {
            (true, Some(failure)) => failure.get("message").and_then(Value::as_str),
            (true, None) => None,
            (false, _) => beat.or_else(|| self.text("last_failure")),
        };
        if skipped {
            text += "  skipped";
        } else if let Some(why) = why {
            text += &format!("  {}", printable(why));
        }
        Line { colour, glyph, text, ended }
    }

    fn retry_wait(&self, now_ms: u64) -> Option<String> {
        let at_ms = parse_rfc3339(self.text("next_attempt_at")?)?;
        Some(span(at_ms.saturating_sub(now_ms)))
    }
}

/// Colour, glyph, and whether it has ended.
fn mark(status: &str, skipped: bool, unicode: bool) -> (&'static str, &'static str, bool) {
    let (colour, glyph, ascii, ended) = match status {
        _ if skipped => (GREY, "\u{2212}", "-", true),
        "SUCCESS" => (GREEN, "\u{2713}", "+", true),
        "FAILED" | "TIMED_OUT" => (RED, "\u{2717}", "x", true),
        "CANCELED" => (GREY, "\u{2298}", "/", true),
        "RUNNING" => (BLUE, "\u{25b6}", ">", false),
        "WAITING" => (YELLOW, "\u{25cc}", "?", false),
        "PAUSED" => (YELLOW, "\u{2016}", "=", false),
        _ => (GREY, "\u{25cb}", ".", false),
    };
    (colour, if unicode { glyph } else { ascii }, ended)
}

fn time_between(from: Option<&str>, to: Option<&str>, now_ms: u64) -> String {
    let Some(from) = from.and_then(parse_rfc3339) else { return String::new() };
    let to = to.and_then(parse_rfc3339).unwrap_or(now_ms);
    span(to.saturating_sub(from))
}

/// Milliseconds for a person.
fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1e3),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
    }
}

/// Leaves out what ended first when there are more lines than fit.
fn fit(lines: Vec<Line>, style: Style) -> Vec<Line> {
    if lines.len() <= style.height {
        return lines;
    }
    // One line says what is left out.
    let mut surplus = lines.len() + 1 - style.height.max(2);
    let mut left_out = 0;
    let mut kept: Vec<Line> = Vec::with_capacity(style.height);
    for line in lines {
        if surplus > 0 && line.ended {
            surplus -= 1;
            left_out += 1;
        } else {
            kept.push(line);
        }
    }
    if surplus > 0 {
        left_out += surplus;
        kept.truncate(style.height.max(2) - 1);
    }
    let text = format!("{left_out} more tasks");
    kept.insert(1, Line { colour: GREY, glyph: " ", text, ended: true });
    kept
}

fn paint(line: &Line, style: Style) -> String {
    let text: String = format!("{} {}", line.glyph, line.text.trim_end()).chars().take(style.width.max(1)).collect();
    if !style.colour {
        return text;
    }
    let (glyph, rest) = text.split_at(line.glyph.len().min(text.len()));
    format!("\u{1b}[{}m{glyph}\u{1b}[0m{rest}", line.colour)
}

/// What was printed of an execution, for output that is no terminal: one line per change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    run: String,
    tasks: HashMap<String, String>,
}

impl Changes {
    /// A line for each thing that stands otherwise than at the last call.
    pub(crate) fn of(&mut self, document: &Value, now_ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for task in document["tasks"].as_array().into_iter().flatten().map(Task) {
            let attempts = task.0["attempts"].as_u64().unwrap_or_default();
            let next = task.text("next_attempt_at").unwrap_or_default();
            let stands = format!("{} {attempts} {next}", task.status());
            if self.tasks.get(task.key()) == Some(&stands) {
                continue;
            }
            self.tasks.insert(task.key().to_owned(), stands);
            let style = Style { width: usize::MAX, height: usize::MAX, colour: false, unicode: false };
            let line = task.line(&printable(task.key()), 24, now_ms, None, style);
            lines.push(format!("{:<9}  {}", task.status(), line.text.trim_end()));
        }
        let status = document["status"].as_str().unwrap_or_default();
        if self.run != status {
            status.clone_into(&mut self.run);
            let name = printable(document["workflow_id"].as_str().unwrap_or_default());
            lines.push(format!("{status:<9}  execution of {name}"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 10_000;
    const STYLE: Style = Style { width: 200, height: 50, colour: false, unicode: false };

    fn task(key: &str, parent: Option<&str>, status: &str, more: &Value) -> Value {
        let mut task = json!({
            "task": key, "id": key, "type": "basic", "status": status,
            "started_at": "1970-01-01T00:00:01.000Z", "ended_at": null,
        });
        if let Some(parent) = parent {
            task["parent"] = parent.into();
        }
        for (name, value) in more.as_object().into_iter().flatten() {
            task[name] = value.clone();
        }
        task
    }

    fn document(tasks: &[Value]) -> Value {
        json!({
            "exec_id": "e1", "workflow_id": "w", "status": "RUNNING", "started_at": "1970-01-01T00:00:00.500Z",
            "ended_at": null, "failure": null, "tasks": tasks,
        })
    }

    #[test]
    fn a_tree_shows_status_duration_attempts_waits_and_what_a_task_says() {
        let ended = json!({ "ended_at": "1970-01-01T00:00:01.250Z" });
        let document = document(&[
            task("load", None, "SUCCESS", &ended),
            task("items", None, "RUNNING", &json!({ "type": "collection" })),
            task("after", None, "SUCCESS", &json!({ "skipped": true, "ended_at": "1970-01-01T00:00:01.000Z" })),
            task(
                "items[0]",
                Some("items"),
                "FAILED",
                &json!({ "failure": { "code": "X", "message": "broke\u{1b}[31m" }, "ended_at": "1970-01-01T00:00:03.000Z" }),
            ),
            task(
                "items[1]",
                Some("items"),
                "RUNNING",
                &json!({ "attempts": 2, "next_attempt_at": "1970-01-01T00:00:12.500Z", "last_failure": "BUSY: later" }),
            ),
            task("items[2]", Some("items"), "RUNNING", &json!({ "attempts": 1 })),
        ]);
        let beats = HashMap::from([("items[2]".to_owned(), "row 7 of 9".to_owned())]);
        assert_eq!(
            lines(&document, NOW, &beats, STYLE),
            [
                "> w  e1  RUNNING  9.5 s  6 tasks",
                "+ load   basic          250 ms",
                "> items  collection      9.0 s",
                "x   [0]  basic           2.0 s  broke\\u{1b}[31m",
                "~   [1]  basic           9.0 s  attempt 2  again in 2.5 s  BUSY: later",
                ">   [2]  basic           9.0 s  row 7 of 9",
                "- after  basic            0 ms  skipped",
            ]
        );
    }

    #[test]
    fn colours_and_width_and_height_are_those_of_the_terminal() {
        let ended = json!({ "ended_at": "1970-01-01T00:00:01.250Z" });
        let tasks: Vec<_> = (0..20).map(|n| task(&format!("t{n}"), None, "SUCCESS", &ended)).collect();
        let drawn = lines(&document(&tasks), NOW, &HashMap::new(), Style { height: 5, width: 20, ..STYLE });
        assert_eq!(drawn.len(), 5);
        assert_eq!(drawn[1], "  17 more tasks");
        assert!(drawn[4].starts_with("+ t19") && drawn[4].chars().count() == 20, "{drawn:?}");
        let coloured =
            lines(&document(&tasks[..1]), NOW, &HashMap::new(), Style { colour: true, unicode: true, ..STYLE });
        assert!(coloured[1].starts_with("\u{1b}[32m\u{2713}\u{1b}[0m t0"), "{coloured:?}");
    }

    #[test]
    fn spans_read_well() {
        for (ms, text) in [(999, "999 ms"), (1_000, "1.0 s"), (61_000, "1m01s"), (7_500_000, "2h05m")] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn elsewhere_each_change_is_one_line() {
        let mut changes = Changes::default();
        let first = document(&[task("a", None, "RUNNING", &json!({ "attempts": 1 }))]);
        assert_eq!(changes.of(&first, NOW).len(), 2);
        assert!(changes.of(&first, NOW + 5_000).is_empty(), "time alone is no change");
        let mut second = document(&[
            task("a", None, "SUCCESS", &json!({ "attempts": 1, "ended_at": "1970-01-01T00:00:01.250Z" })),
            task("b", None, "RUNNING", &json!({})),
        ]);
        second["status"] = "WAITING".into();
        let lines = changes.of(&second, NOW);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "SUCCESS    a                         basic          250 ms");
        assert_eq!(lines[2], "WAITING    execution of w");
    }
}
