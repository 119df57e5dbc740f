//! Plugins: whether they load, and whether their limits fire on this machine.

use std::collections::BTreeMap;
use std::path::Path;

use compozy_embed::Project;
use compozy_runtime::{Limit, PluginPolicy, Runtime, RuntimeOptions, StoreSelection};

use super::Check;
use crate::args::HostArgs;

const LOAD: &str = "plugins";
const LIMITS: &str = "plugin limits";
/// A built-in that runs tasks and needs nothing.
const SUBJECT: &str = "weather";
/// What is told when a limit ends a call.
const LIMIT_CODE: &str = "PLUGIN_LIMIT";
/// Limits that no call can keep: too few instructions to begin, and less memory than any program has.
const TOO_LITTLE: [(Limit, u64); 2] = [(Limit::Fuel, 100), (Limit::MemoryBytes, 1024)];

/// Loads the plugins as a host would, and lets limits fire.
pub(super) async fn check(host: &HostArgs) -> Vec<Check> {
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            return vec![Check::problem(LOAD, format!("no temporary folder can be made: {error}"), "set TMPDIR")];
        }
    };
    // What a host has compiled already is used.
    let code = Some(host.data_dir.join("code")).filter(|folder| folder.is_dir());
    let code = code.unwrap_or_else(|| scratch.path().join("code"));
    let mut checks = load(host, scratch.path(), &code).await;
    checks.push(limits(scratch.path(), &code).await);
    checks
}

async fn load(host: &HostArgs, scratch: &Path, code: &Path) -> Vec<Check> {
    let project = Project::read(&host.project);
    let (settings, _) = project.settings(&host.loaded);
    let options = RuntimeOptions {
        code_cache_dir: Some(code.to_owned()),
        ..settings.runtime_options(&host.plugins, &scratch.join("loaded"))
    };
    let runtime = match Runtime::open(options).await {
        Ok(runtime) => runtime,
        Err(errors) => {
            let one = |error: &compozy_runtime::LoadError| Check::problem(LOAD, error.to_string(), "");
            return errors.0.iter().map(one).collect();
        }
    };
    let names: Vec<String> = runtime.plugins().iter().map(|plugin| plugin.identity.name.clone()).collect();
    let ticking = runtime.ticking();
    runtime.stop();
    if !ticking {
        let detail = "the clock that ends endless calls does not run";
        return vec![Check::problem(LOAD, detail, "start again; if it stays so, report this")];
    }
    vec![Check::ok(LOAD, format!("{} load: {}", names.len(), names.join(", ")))]
}

async fn limits(scratch: &Path, code: &Path) -> Check {
    let advice = "this machine cannot hold plugins back: do not run plugins of others on it, and report this";
    let mut fired = Vec::new();
    for (limit, allowed) in TOO_LITTLE {
        match fires(limit, allowed, scratch, code).await {
            Ok(()) => fired.push(limit.name()),
            Err(why) => return Check::problem(LIMITS, format!("`{limit}` does not fire: {why}"), advice),
        }
    }
    Check::ok(LIMITS, format!("`{}` fire, and the clock that ends endless calls runs", fired.join("` and `")))
}

/// Loads a plugin that may do next to nothing, and wants it refused for that reason: what a plugin says of itself is a call as well.
async fn fires(limit: Limit, allowed: u64, scratch: &Path, code: &Path) -> Result<(), String> {
    let policy = PluginPolicy { caps: BTreeMap::from([(limit, allowed)]), ..PluginPolicy::default() };
    let options = RuntimeOptions {
        builtins: compozy_embed::builtins::builtins(|name| name == SUBJECT),
        policies: BTreeMap::from([(SUBJECT.to_owned(), policy)]),
        stores: StoreSelection::none(),
        code_cache_dir: Some(code.to_owned()),
        archive_dir: None,
        ..RuntimeOptions::new(scratch.join(limit.name()))
    };
    match Runtime::open(options).await {
        Ok(runtime) => {
            runtime.stop();
            Err(format!("a plugin that was allowed {allowed} {} was loaded", limit.spec().unit))
        }
        Err(errors) if errors.0.iter().all(|error| error.code == LIMIT_CODE) => Ok(()),
        Err(errors) => Err(errors.to_string()),
    }
}
