//! Plugins that misbehave, each against its own limit, while a healthy workflow on the same host goes on.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use compozy_tests::guests;
use compozy_tests::host::Host;
use compozy_tests::project::Sandbox;
use serde_json::json;

/// Small enough to be hit in a moment; fuel is out of the way, so that time is what ends a loop.
const LIMITS: &str = "[limits]
fuel = 1_000_000_000_000
wall_ms = 400
call_timeout_ms = 1_500
memory_bytes = 33_554_432
handles = 200
hostcall_bytes = 1_048_576
output_bytes = 65_536
sql_bytes = 8_388_608
sql_statements = 50
";
/// The same plugin with little fuel.
const LITTLE_FUEL: &str = "[limits]\nfuel = 10_000_000\n";

/// What is done, by which plugin, with which input; and the code and the limit that must end it.
const MISDEEDS: [(&str, &str, &str, &str, &str); 14] = [
    ("infinite_loop", "spender", "{}", "PLUGIN_LIMIT", "fuel"),
    ("infinite_loop", "hostile", "{}", "PLUGIN_LIMIT", "wall_ms"),
    ("loop_in_host_call", "hostile", "{}", "PLUGIN_LIMIT", "wall_ms"),
    ("sleep_forever", "hostile", "{}", "PLUGIN_LIMIT", "call_timeout_ms"),
    ("grow_memory", "hostile", "{}", "PLUGIN_LIMIT", "memory_bytes"),
    ("deep_recursion", "hostile", "{}", "PLUGIN_LIMIT", "stack_bytes"),
    ("log_flood", "hostile", "{}", "PLUGIN_LIMIT", "log_bytes"),
    ("huge_output", "hostile", r#"{"bytes":200000}"#, "PLUGIN_LIMIT", "output_bytes"),
    ("huge_argument", "hostile", r#"{"bytes":4000000}"#, "PLUGIN_LIMIT", "hostcall_bytes"),
    ("huge_random", "hostile", r#"{"bytes":4000000}"#, "PLUGIN_LIMIT", "random_bytes"),
    ("open_handles", "hostile", "{}", "PLUGIN_LIMIT", "handles"),
    ("sql_forever", "hostile", "{}", "PLUGIN_LIMIT", "wall_ms"),
    ("panic", "hostile", "{}", "PLUGIN_TRAP", ""),
    ("exit", "hostile", "{}", "PLUGIN_TRAP", ""),
];

/// Attempts to break out: each tells what came of it, and all must have been refused.
const ESCAPES: [(&str, &str); 5] = [
    ("sql_attach", "{}"),
    ("sql_pragma", "{}"),
    ("path_escape", "{}"),
    ("read_env", "{}"),
    ("network", r#"{"address":"{{ .input.address }}","url":"http://{{ .input.address }}/"}"#),
];

fn workflow(id: &str, plugin: &str, action: &str, input: &str) -> String {
    format!(
        "id: {id}\nversion: 0.1.0\nconfig:\n  retry_policy: {{ maximum_attempts: 1 }}\n\
         tools:\n  - {{ id: t, plugin: {plugin}, action: {action} }}\n\
         tasks:\n  - id: misbehave\n    tool: t\n    with: {input}\n"
    )
}

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "echo", "")?;
    guests::install(&sandbox, "hostile", LIMITS)?;
    guests::install_as(&sandbox, "hostile", "spender", LITTLE_FUEL)?;
    let mut sources = vec!["healthy".to_owned()];
    sandbox.write("project/healthy.yaml", workflow("healthy", "echo", "echo", r#"{"still":"here"}"#))?;
    for (action, plugin, input, ..) in MISDEEDS {
        let id = format!("{plugin}-{action}");
        sandbox.write(&format!("project/{id}.yaml"), workflow(&id, plugin, action, input))?;
        sources.push(id);
    }
    for (action, input) in ESCAPES {
        sandbox.write(&format!("project/{action}.yaml"), workflow(action, "hostile", action, input))?;
        sources.push(action.to_owned());
    }
    let sources: Vec<_> = sources.iter().map(|id| format!("  - source: ./{id}.yaml\n")).collect();
    let grants = "plugins:\n  hostile:\n    grant:\n      sql: true\n      folders: [{ guest: /data, host: ./box, access: read-write }]\n";
    sandbox.write("project/box/inside.txt", "inside")?;
    sandbox.write(
        "project/compozy.yaml",
        format!("name: hostile\nversion: 0.1.0\nworkflows:\n{}{grants}", sources.concat()),
    )?;
    Ok(sandbox)
}

#[test]
fn each_misdeed_ends_at_its_limit_while_others_go_on() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let healthy = scope.spawn(|| -> Result<u32> {
            let mut runs = 0;
            while !over.load(Ordering::Acquire) || runs == 0 {
                let ended = host.run("healthy", &json!({}))?;
                assert_eq!(ended["output"], json!({ "still": "here" }), "{ended:#}");
                runs += 1;
            }
            Ok(runs)
        });
        let end = Over(&over);
        let misdeeds = misdeeds(&host);
        drop(end);
        let runs = healthy.join().expect("the healthy workflow went on")?;
        assert!(runs > 0);
        misdeeds
    })?;
    assert_eq!(host.get("/api/v0/health")?.body["status"], "ok");
    Ok(())
}

/// Ends the healthy thread, also when an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// All at once.
#[expect(clippy::print_stdout, reason = "the messages are there to be read: `--nocapture`")]
fn misdeeds(host: &Host) -> Result<()> {
    let started: Result<Vec<_>> = MISDEEDS
        .iter()
        .map(|(action, plugin, ..)| host.start_workflow(&format!("{plugin}-{action}"), &json!({})))
        .collect();
    for ((action, plugin, _, code, limit), id) in MISDEEDS.iter().zip(started?) {
        let ended = host.ended(&id)?;
        let task = &ended["tasks"][0];
        let failure = &task["failure"];
        assert_eq!(
            (&ended["status"], &failure["code"]),
            (&json!("FAILED"), &json!(code)),
            "{plugin} {action}: {ended:#}"
        );
        assert_eq!(task["plugin"]["name"], *plugin, "{action}: {task:#}");
        let message = failure["message"].as_str().unwrap_or_default();
        println!("{action}: {message}");
        assert!(message.contains(&format!("`{plugin}`")), "names the plugin: {message}");
        if !limit.is_empty() {
            assert_eq!(failure["details"]["limit"], *limit, "{action}: {failure:#}");
            assert!(message.contains(limit), "names the limit: {message}");
            let number = |key: &str| failure["details"][key].as_u64();
            assert!(number("used") >= number("allowed") && number("allowed").is_some(), "{action}: {failure:#}");
        }
    }
    Ok(())
}

#[test]
fn no_way_out_of_the_sandbox_is_open() -> Result<()> {
    let sandbox = sandbox()?;
    let neighbour = TcpListener::bind("127.0.0.1:0")?;
    neighbour.set_nonblocking(true)?;
    let input = json!({ "address": neighbour.local_addr()?.to_string() });
    let host = Host::start(&sandbox)?;
    for (action, _) in ESCAPES {
        let ended = host.run(action, &input)?;
        assert_eq!(ended["status"], "SUCCESS", "{action} tells what came of it: {ended:#}");
        let mut output = ended["output"].clone();
        // Tells the sizes of the plugin's own tables: no way out.
        output.as_object_mut().map(|tried| tried.remove("SELECT * FROM dbstat"));
        if action == "read_env" {
            assert_eq!((&output["variables"], &output["arguments"]), (&json!({}), &json!([])), "{output:#}");
            continue;
        }
        // A link may be made, it must not be followed.
        let text = output.to_string().replace("ALLOWED: made", "");
        assert!(!text.contains("ALLOWED"), "{action}: {output:#}");
        assert!(text.contains("refused"), "{action} tried: {output:#}");
    }
    let came = neighbour.accept().map(|(_, from)| from);
    assert!(came.is_err(), "nobody came out of the sandbox: {came:?}");
    Ok(())
}
