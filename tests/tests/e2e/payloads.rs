//! The largest payload, over HTTP and through real plugins.

use anyhow::Result;
use compozy_tests::guests;
use compozy_tests::host::Host;
use compozy_tests::project::Sandbox;
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;
/// The engine's limit of one payload, less what is around the text.
pub(crate) const LARGEST: usize = 16 * MIB - 100;

/// What a plugin asks for that handles the largest payload.
pub(crate) const LARGE: &str =
    "[limits]\ninput_bytes = 33554432\noutput_bytes = 33554432\nmemory_bytes = 268435456\nwall_ms = 60000\n";

/// A project whose workflow hands a text through five tasks.
pub(crate) fn sandbox(limits: &str) -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    let task = |n: usize, from: &str| format!("  - {{id: t{n}, tool: echo, with: {{doc: \"{{{{ {from} }}}}\"}}}}\n");
    let tasks: String = (1..5).map(|n| task(n, &format!(".tasks.t{}.output.doc", n - 1))).collect();
    let workflow = format!(
        "id: relay\ntools: [{{id: echo, plugin: echo, action: echo}}]\ntasks:\n{}{tasks}\
         outputs: {{doc: \"{{{{ .tasks.t4.output.doc }}}}\"}}\n",
        task(0, ".input.doc")
    );
    sandbox.write("project/relay.yaml", workflow)?;
    sandbox.write("project/compozy.yaml", "name: payloads\nversion: 0.1.0\nworkflows: [{source: ./relay.yaml}]\n")?;
    guests::install(&sandbox, "echo", limits)?;
    Ok(sandbox)
}

#[test]
fn sixteen_mebibytes_go_through_five_tasks_and_over_a_restart() -> Result<()> {
    let sandbox = sandbox(LARGE)?;
    let doc: String = (0..LARGEST).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap_or(0))).collect();
    let host = Host::start(&sandbox)?;
    let answer = host.try_start("relay", &json!({ "doc": doc }))?;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.body["exec_id"].as_str().expect("an id").to_owned();
    let ended = host.ended(&id)?;
    assert_eq!(ended["status"], "SUCCESS", "{}", ended["failure"]);
    assert!(ended["output"]["doc"] == doc.as_str(), "the output is whole");
    let reference = &ended["tasks"][0]["output"]["doc"]["$compozy:blob"];
    assert_eq!(ended["tasks"].as_array().map(Vec::len), Some(5));
    assert_eq!(reference["bytes"], json!(LARGEST + 2), "what a task answered is shown as a reference");
    let path = format!("/api/v0/executions/{id}/blobs/{}", reference["sha256"].as_str().unwrap_or_default());
    assert!(host.get(&path)?.body == Value::String(doc.clone()), "and can be had by it");
    let journal = std::fs::metadata(sandbox.data().join("journal.db"))?.len();
    assert!(journal < MIB as u64, "the journal has {journal} bytes");
    drop(host);
    let host = Host::start(&sandbox)?;
    assert!(host.get(&format!("/api/v0/executions/{id}"))?.body["output"]["doc"] == doc.as_str());
    let missing = host.get(&format!("/api/v0/executions/{id}/blobs/{}", "0".repeat(64)))?;
    assert_eq!((missing.status, missing.code()), (404, "BLOB_NOT_FOUND"));
    Ok(())
}

#[test]
fn a_plugin_that_may_not_read_so_much_fails_its_task_by_the_name_of_the_limit() -> Result<()> {
    let sandbox = sandbox("")?;
    let host = Host::start(&sandbox)?;
    let answer = host.try_start("relay", &json!({ "doc": "x".repeat(5 * MIB) }))?;
    let ended = host.ended(answer.body["exec_id"].as_str().expect("an id"))?;
    assert_eq!(ended["status"], "FAILED");
    let failure = &ended["failure"];
    assert_eq!((&failure["code"], &failure["details"]["limit"]), (&json!("PLUGIN_LIMIT"), &json!("input_bytes")));
    Ok(())
}
