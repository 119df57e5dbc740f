//! Plugin folders that are wrong: the host does not start, and says why in a sentence for each.

use std::fs;

use anyhow::Result;
use compozy_tests::guests;
use compozy_tests::host::{Host, run};
use compozy_tests::project::Sandbox;
use serde_json::json;

const MANIFEST: &str = "name = \"bad\"\nversion = \"0.1.0\"\ndescription = \"For tests.\"\n";

fn refusal(sandbox: &Sandbox) -> Result<String> {
    let outcome = run(sandbox.root(), &["--listen", "127.0.0.1:0", "--data-dir", "data", "--plugins", "plugins"])?;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.stdout, "", "nothing was served");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    Ok(outcome.stderr)
}

/// One plugin folder each: what is in `bad.wasm`, what is in `plugin.toml`, and what the host must say.
#[test]
fn each_bad_plugin_is_refused_by_name_and_reason() -> Result<()> {
    let core = wat::parse_str("(module)")?;
    let empty = wat::parse_str("(component)")?;
    let stranger = wat::parse_str(r#"(component (import "acme:mail/send@1.0.0" (instance (export "send" (func)))))"#)?;
    let echo = fs::read(compozy_tests::project::checkout().join("tests/guests/echo/echo.wasm"))?;
    let truncated = echo[..echo.len() / 2].to_vec();
    let manifest = |more: &str| format!("{MANIFEST}{more}");
    let cases: Vec<(&str, Vec<u8>, String, &[&str])> = vec![
        ("not wasm", b"hello".to_vec(), manifest(""), &["plugins/bad", "WebAssembly"]),
        ("a core module", core, manifest(""), &["plugins/bad", "core WebAssembly module"]),
        ("truncated", truncated, manifest(""), &["plugins/bad", "cut off"]),
        ("exports nothing", empty, manifest(""), &["plugins/bad", "exports nothing"]),
        ("imports what is not offered", stranger, manifest(""), &["plugins/bad", "acme:mail/send"]),
        ("an unknown key", echo.clone(), manifest("auhtor = \"me\"\n"), &["plugin.toml", "`auhtor`"]),
        ("an unknown limit", echo.clone(), manifest("[limits]\nfule = 1\n"), &["plugin.toml", "`fule`", "`fuel`"]),
        ("a missing key", echo.clone(), "version = \"0.1.0\"\n".to_owned(), &["plugin.toml", "`name`"]),
        ("no TOML", echo, "name = \n".to_owned(), &["plugin.toml", "1"]),
    ];
    for (what, component, manifest, parts) in cases {
        let sandbox = Sandbox::new()?;
        sandbox.write("plugins/bad/plugin.toml", manifest)?;
        sandbox.write("plugins/bad/bad.wasm", component)?;
        let message = refusal(&sandbox)?;
        for part in parts {
            assert!(message.contains(part), "{what}: `{part}` is missing in: {message}");
        }
    }
    Ok(())
}

#[test]
fn all_problems_are_told_in_one_go() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("plugins/first/plugin.toml", "name = 1\n")?;
    sandbox.write("plugins/second/plugin.toml", MANIFEST)?;
    sandbox.write("project/compozy.yaml", "name: p\nworkflows:\n  - source: ./w.yaml\n")?;
    sandbox.write("project/w.yaml", "id: w\ntasks: []\nnonsense: 1\n")?;
    let args = ["--listen", "127.0.0.1:0", "--data-dir", "data", "--plugins", "plugins", "--project", "project"];
    let outcome = run(sandbox.root(), &args)?;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    for part in ["first", "second", "nonsense"] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn two_plugins_of_one_name_are_refused_with_both_places() -> Result<()> {
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "echo", "")?;
    let copy = sandbox.plugins().join("other");
    fs::create_dir(&copy)?;
    for file in ["plugin.toml", "echo.wasm"] {
        fs::copy(sandbox.plugins().join("echo").join(file), copy.join(file))?;
    }
    let message = refusal(&sandbox)?;
    for part in ["`echo`", "plugins/echo", "plugins/other"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    Ok(())
}

#[test]
fn a_plugin_folder_that_is_not_there_is_refused() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let outcome = run(sandbox.root(), &["--listen", "127.0.0.1:0", "--data-dir", "data", "--plugins", "plugnis"])?;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("plugnis"), "{outcome:?}");
    Ok(())
}

#[test]
fn a_plugin_takes_the_place_of_the_built_in_of_its_name() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let folder = sandbox.plugins().join("weather");
    fs::create_dir(&folder)?;
    let from = compozy_tests::project::checkout().join("plugins/weather");
    for file in ["plugin.toml", "weather.wasm"] {
        fs::copy(from.join(file), folder.join(file))?;
    }
    let host = Host::start(&sandbox)?;
    let health = host.get("/api/v0/health")?.body;
    let plugins = health["plugins"].as_array().expect("a list");
    let find = |name: &str| plugins.iter().find(|p| p["name"] == name).expect("is there").clone();
    assert_eq!(find("weather")["replaces_builtin"], json!(true), "{health:#}");
    assert_eq!(find("files")["replaces_builtin"], json!(false), "{health:#}");
    assert_eq!(plugins.iter().filter(|p| p["name"] == "weather").count(), 1);
    Ok(())
}
