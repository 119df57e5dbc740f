//! What is no plugin is refused with a code and a sentence, everything at once.

use std::path::Path;

use compozy_runtime::{Limit, Runtime};
use serde_json::json;

use crate::support::{Sandbox, call, guest, wat};

const NAME: &str = "name = \"p\"\nversion = \"0.1.0\"\n";

/// A component that imports one interface and exports nothing.
fn importing(interface: &str, body: &str) -> Vec<u8> {
    wat(&format!("(component (import \"{interface}\" (instance {body})))"))
}

async fn refused(component: Vec<u8>) -> (String, String) {
    let mut errors = Sandbox::new().with(NAME, component).errors().await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = errors.remove(0);
    assert!(error.place.contains("`p`"));
    (error.code.to_owned(), error.message)
}

#[tokio::test]
async fn files_that_are_no_components_are_refused() {
    let echo = guest("echo");
    let cut_off = echo[..echo.len() / 2].to_vec();
    let cases = [
        (b"#!/bin/sh".to_vec(), "PLUGIN_NOT_A_COMPONENT", "it is not WebAssembly"),
        (Vec::new(), "PLUGIN_NOT_A_COMPONENT", "empty"),
        (wat("(module)"), "PLUGIN_CORE_MODULE", "core WebAssembly module"),
        (cut_off, "PLUGIN_INVALID", "cannot be compiled"),
        (wat("(component)"), "PLUGIN_NO_ROLE", "it exports nothing"),
        (
            wat("(component (instance $i) (export \"compozy:task/executer@0.1.0\" (instance $i)))"),
            "PLUGIN_NO_ROLE",
            "did you mean `compozy:task/executor`?",
        ),
        (
            wat("(component (instance $i) (export \"compozy:store/cache@0.2.0\" (instance $i)))"),
            "PLUGIN_EXPORT_MISMATCH",
            "speaks version 0.1.",
        ),
        (
            wat("(component (instance $i) (export \"compozy:store/cache@0.1.0\" (instance $i)))"),
            "PLUGIN_EXPORT_MISMATCH",
            "`compozy:store/cache` does not fit",
        ),
        (importing("compozy:host/sqll@0.1.0", ""), "PLUGIN_IMPORT_UNKNOWN", "did you mean `compozy:host/sql`?"),
        (importing("wasi:io/poll@0.3.0", ""), "PLUGIN_IMPORT_UNKNOWN", "the host offers WASI 0.2"),
        (importing("other:thing/x@1.0.0", ""), "PLUGIN_IMPORT_UNKNOWN", "the host does not offer it"),
        (wat("(component (import \"f\" (func)))"), "PLUGIN_IMPORT_UNKNOWN", "no interface"),
    ];
    for (component, code, words) in cases {
        let (found, message) = refused(component).await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(words), "`{words}` is missing in: {message}");
    }
}

#[tokio::test]
async fn an_import_of_another_type_is_named() {
    let text = "(component
        (import \"compozy:host/log@0.1.0\" (instance (export \"log\" (func (param \"level\" u32)))))
        (instance $i) (export \"compozy:store/cache@0.1.0\" (instance $i)))";
    let (code, message) = refused(wat(text)).await;
    assert_eq!(code, "PLUGIN_IMPORT_MISMATCH");
    assert!(message.contains("compozy:host/log") && message.contains("`log`"), "{message}");
}

#[tokio::test]
async fn more_memories_and_tables_than_allowed_are_refused_before_they_run() {
    let many =
        |what: &str| format!("(component (core module $m ({what})) {})", "(core instance (instantiate $m))".repeat(20));
    for (what, limit) in
        [("memory 1", Limit::Memories), ("table 1 funcref", Limit::Tables), ("memory 2000", Limit::Memories)]
    {
        let (code, message) = refused(wat(&many(what))).await;
        assert_eq!(code, "PLUGIN_LIMIT", "{message}");
        assert!(message.contains(&format!("`{limit}`")) && message.contains("needs 20 "), "{message}");
    }
    let (code, message) =
        refused(wat("(component (core module $m (memory 2000)) (core instance (instantiate $m)))")).await;
    assert_eq!(code, "PLUGIN_LIMIT");
    assert!(message.contains("`memory_bytes`") && message.contains("131072000 bytes"), "{message}");
}

fn write(folder: &Path, manifest: &str, component: Option<(&str, &[u8])>) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    if let Some((name, component)) = component {
        std::fs::write(folder.join(name), component).unwrap();
    }
}

#[tokio::test]
async fn a_component_that_is_too_large_is_not_read() {
    let mut sandbox = Sandbox::new();
    let plugins = sandbox.folder.path().join("plugins");
    write(&plugins.join("p"), NAME, Some(("p.wasm", b"")));
    let file = std::fs::OpenOptions::new().write(true).open(plugins.join("p/p.wasm")).unwrap();
    file.set_len(Limit::ComponentBytes.spec().default + 1).unwrap();
    sandbox.options.plugin_dirs = vec![plugins];
    let errors = sandbox.errors().await;
    assert_eq!((errors.len(), errors[0].code), (1, "PLUGIN_TOO_LARGE"));
    for part in ["67108865", "67108864", "`component_bytes`"] {
        assert!(errors[0].message.contains(part), "{}", errors[0]);
    }
}

#[tokio::test]
async fn all_errors_are_told_at_once() {
    let mut sandbox = Sandbox::new();
    let plugins = sandbox.folder.path().join("plugins");
    write(&plugins.join("a"), NAME, Some(("p.wasm", b"x")));
    write(&plugins.join("b"), NAME, Some(("p.wasm", b"x")));
    write(&plugins.join("c"), "name = \"c\"\nversion = \"0.1.0\"\n", None);
    write(&plugins.join("d"), "nam = \"d\"\n", None);
    std::fs::create_dir_all(plugins.join("e")).unwrap();
    std::fs::write(plugins.join("e/e.wasm"), b"x").unwrap();
    std::fs::create_dir_all(plugins.join("not-a-plugin")).unwrap();
    sandbox.options.plugin_dirs = vec![plugins.clone(), sandbox.folder.path().join("missing")];
    let errors = sandbox.errors().await;
    let mut codes: Vec<&str> = errors.iter().map(|error| error.code).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "PLUGIN_COMPONENT_MISSING",
            "PLUGIN_DUPLICATE",
            "PLUGIN_FOLDER_UNREADABLE",
            "PLUGIN_MANIFEST_INVALID",
            "PLUGIN_MANIFEST_MISSING",
            "PLUGIN_NOT_A_COMPONENT"
        ]
    );
    let twice = errors.iter().find(|error| error.code == "PLUGIN_DUPLICATE").unwrap();
    for folder in ["a", "b"] {
        assert!(twice.message.contains(&plugins.join(folder).display().to_string()), "{twice}");
    }
}

#[tokio::test]
async fn a_folder_takes_the_place_of_a_builtin() {
    let mut sandbox = Sandbox::new().with("name = \"echo\"\nversion = \"0.1.0\"\n", guest("echo"));
    let plugin = sandbox.folder.path().join("mine");
    write(&plugin, "name = \"echo\"\nversion = \"9.0.0\"\ncomponent = \"e.wasm\"\n", Some(("e.wasm", &guest("echo"))));
    sandbox.options.plugin_dirs = vec![plugin];
    let (_folder, runtime) = sandbox.open().await;
    let status = &runtime.plugins()[0];
    assert_eq!((status.identity.version.as_str(), status.replaces_builtin), ("9.0.0", true));
    assert!(status.actions.iter().any(|action| action.name == "add" && action.input_schema.is_some()));
    assert_eq!(call(&runtime, "echo", "add", json!({ "numbers": [1, 2] })).await.unwrap().output, json!(3));
}

#[tokio::test]
async fn a_role_that_nobody_fills_is_one_sentence() {
    let mut sandbox = Sandbox::new().with("name = \"echo\"\nversion = \"0.1.0\"\n", guest("echo"));
    sandbox.options.stores.cache = Some("echo".to_owned());
    sandbox.options.stores.memory_store = Some("sqlite".to_owned());
    let errors: Vec<String> = sandbox.errors().await.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "the stores: `compozy:store/cache` is to be filled by plugin `echo`, which does not export it; no installed plugin does; install one [ROLE_UNFILLED]",
            "the stores: `compozy:store/memory-store` is to be filled by plugin `sqlite`, which is not installed; no installed plugin does; install one [ROLE_UNFILLED]",
        ]
    );
}

#[tokio::test]
async fn code_is_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut sandbox = Sandbox::new().with("name = \"echo\"\nversion = \"0.1.0\"\n", guest("echo"));
        sandbox.options.code_cache_dir = Some(folder.path().join("code"));
        let runtime = Runtime::open(sandbox.options).await.unwrap();
        assert_eq!(call(&runtime, "echo", "echo", json!(1)).await.unwrap().output, json!(1));
    }
    assert_eq!(std::fs::read_dir(folder.path().join("code")).unwrap().count(), 2, "one file and the key");
}
