//! What runs while hosts die.

use std::fs;

use anyhow::Result;

use crate::guests;
use crate::project::Sandbox;

/// The folder that the tasks leave their traces in; no host ever reads it.
const TRACE: &str = "trace";

const COMMON: &str = "version: 0.1.0
config: {retry_policy: {initial_interval: 20ms, maximum_attempts: 4}}
tools: [{id: act, plugin: witness, action: act}]
";

/// The workflows, and what is in them beside [`COMMON`].
const WORKFLOWS: [(&str, &str); 7] = [
    (
        // Three tasks, each with what the one before it answered; the second succeeds with its second attempt.
        "chain",
        "tasks:
  - {id: a, tool: act, with: {carry: '{{ .input.n }}'}}
  - {id: b, tool: act, with: {succeed_on: 2, carry: '{{ .tasks.a.output.token }}'}}
  - {id: c, tool: act, with: {ms: 20, carry: '{{ .tasks.b.output.token }}'}}
outputs: {n: '{{ .tasks.a.output.carry }}', a: '{{ .tasks.b.output.carry }}', b: '{{ .tasks.c.output.carry }}'}
",
    ),
    (
        // Two signals of one name.
        "gather",
        "tasks:
  - {id: a, tool: act, with: {ms: 30}}
  - {id: one, type: wait, wait_for: go, outputs: '{{ .output.signal.payload.num }}'}
  - {id: b, tool: act, with: {ms: 30}}
  - {id: two, type: wait, wait_for: go, outputs: '{{ .output.signal.payload.num }}'}
outputs: {n: '{{ .input.n }}', one: '{{ .tasks.one.output }}', two: '{{ .tasks.two.output }}'}
",
    ),
    (
        // Losers are interrupted, and one of them would never end.
        "race",
        "tasks:
  - id: all
    type: parallel
    strategy: race
    tasks:
      - {id: quick, tool: act, with: {ms: 20}}
      - {id: slow, tool: act, with: {ms: 2000}}
      - {id: never, type: wait, wait_for: nothing}
  - {id: after, tool: act}
outputs: {n: '{{ .input.n }}'}
",
    ),
    (
        "timers",
        "tasks:
  - {id: a, tool: act, sleep: 150ms}
  - {id: w, type: wait, wait_for: nothing, timeout: 100ms, on_timeout: each}
  - {id: each, type: collection, items: [1, 2, 3, 4], max_workers: 2, task: {id: one, tool: act, with: {carry: '{{ .item }}'}, sleep: 20ms}}
outputs: {n: '{{ .input.n }}', items: '{{ .tasks.each.output.item_count }}'}
",
    ),
    (
        "family",
        "tasks:
  - id: both
    type: parallel
    tasks:
      - {id: left, workflow: leaf, with: {n: '{{ .input.n }}'}}
      - {id: right, workflow: leaf, with: {n: '{{ .input.n }}'}}
  - {id: after, tool: act, with: {carry: '{{ .tasks.both.output.left.n }}'}}
outputs: {n: '{{ .tasks.after.output.carry }}'}
",
    ),
    (
        "leaf",
        "tasks:
  - {id: a, tool: act, with: {ms: 20, carry: '{{ .input.n }}'}}
outputs: {n: '{{ .tasks.a.output.carry }}'}
",
    ),
    (
        // A value above what a journal keeps inline goes through two tasks.
        "large",
        "tasks:
  - {id: a, tool: act, with: {carry: '{{ .input.text }}'}}
  - {id: b, tool: act, with: {carry: '{{ .tasks.a.output.carry }}'}}
outputs: {n: '{{ .input.n }}', text: '{{ .tasks.b.output.carry }}'}
",
    ),
];

/// A project with these workflows, and the plugin `witness` with its folder.
pub(super) fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    let trace = sandbox.root().join(TRACE);
    fs::create_dir(&trace)?;
    guests::install(&sandbox, "witness", "")?;
    let mut sources = String::new();
    for (id, rest) in WORKFLOWS {
        sandbox.write(&format!("project/{id}.yaml"), format!("id: {id}\n{COMMON}{rest}"))?;
        sources.push_str(&format!("  - source: ./{id}.yaml\n"));
    }
    let folder = format!("{{ guest: /trace, host: \"{}\", access: read-write }}", trace.display());
    let grant = format!("plugins:\n  witness:\n    grant: {{ folders: [{folder}] }}\n");
    sandbox.write("project/compozy.yaml", format!("name: crash\nversion: 0.1.0\nworkflows:\n{sources}{grant}"))?;
    Ok(sandbox)
}

/// The traces, a line for each attempt. A host that is killed may leave a part of a line at the end.
pub(super) fn traces(sandbox: &Sandbox) -> String {
    let text = fs::read_to_string(sandbox.root().join(TRACE).join("effects")).unwrap_or_default();
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].to_owned()
}
