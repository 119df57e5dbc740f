//! Runtimes for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compozy_runtime::loader::LoadError;
use compozy_runtime::runtime::{CallFailure, TaskResponse};
use compozy_runtime::{Builtin, Grants, Limit, PluginPolicy, Runtime, RuntimeOptions, StoreSelection, TaskRequest};
use serde_json::Value;

/// A guest that `cargo xtask build` made.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    read(&format!("tests/guests/{name}/{name}.wasm"))
}

/// The store plugin, likewise.
pub(crate) fn sqlite() -> Vec<u8> {
    read("plugins/sqlite/sqlite.wasm")
}

fn read(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("cannot read `{}`: {error}; run `cargo xtask build` first", path.display()))
}

/// A task executor with the action `run`, written as text: more fields of its core module, what `run` does before it
/// answers 1, and more fields of the component.
pub(crate) fn executor(fields: &str, body: &str, component: &str) -> Vec<u8> {
    let text = include_str!("../wat/executor.wat");
    wat(&text.replace(";;FIELDS;;", fields).replace(";;BODY;;", body).replace(";;COMPONENT;;", component))
}

/// A component written as text.
pub(crate) fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is valid")
}

pub(crate) fn builtin(manifest: &str, component: Vec<u8>) -> Builtin {
    Builtin { manifest: manifest.to_owned().into(), component: component.into() }
}

/// A runtime without stores, in a folder that goes with it.
pub(crate) struct Sandbox {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: RuntimeOptions,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = RuntimeOptions::new(folder.path());
        options.stores = StoreSelection::none();
        Self { folder, options }
    }

    pub(crate) fn with(mut self, manifest: &str, component: Vec<u8>) -> Self {
        self.options.builtins.push(builtin(manifest, component));
        self
    }

    pub(crate) fn policy(mut self, plugin: &str, grants: Grants, caps: &[(Limit, u64)]) -> Self {
        let caps = caps.iter().copied().collect();
        self.options.policies.insert(plugin.to_owned(), PluginPolicy { grants, caps });
        self
    }

    /// Opens; the folder must outlive the runtime.
    pub(crate) async fn open(self) -> (tempfile::TempDir, Arc<Runtime>) {
        let runtime = Runtime::open(self.options).await.expect("the plugins load");
        (self.folder, runtime)
    }

    pub(crate) async fn errors(self) -> Vec<LoadError> {
        Runtime::open(self.options).await.expect_err("the plugins must be refused").0
    }
}

pub(crate) fn request(plugin: &str, action: &str, input: &Value) -> TaskRequest {
    TaskRequest {
        digest: None,
        supervisor: None,
        plugin: plugin.to_owned(),
        action: Some(action.to_owned()),
        input: serde_json::to_vec(input).expect("a value is JSON"),
        config: b"null".to_vec(),
        execution_id: "exec".to_owned(),
        task: "task".to_owned(),
        idempotency_key: "exec/task".to_owned(),
        attempt: 1,
        timeout: Duration::from_mins(1),
    }
}

pub(crate) async fn call(
    runtime: &Runtime,
    plugin: &str,
    action: &str,
    input: Value,
) -> Result<TaskResponse, CallFailure> {
    runtime.execute(request(plugin, action, &input)).await
}
