//! The measures, one function each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compozy_runtime::bindings::cache::CachePlugin;
use compozy_runtime::bindings::task::exports::compozy::task::executor::Request;
use compozy_runtime::code_cache::CodeCache;
use compozy_runtime::engine::SandboxEngine;
use compozy_runtime::stores::{Cache, Condition};
use compozy_runtime::{Grants, InstancePool, PluginPolicy, Runtime, RuntimeOptions, StoreSelection, TaskRequest};

use crate::bare::{self, Bare};
use crate::native::{Native, many_sql};
use crate::sample::{Measure, paired};

const KEYS: usize = 1_000;
const VALUE: [u8; 100] = [7; 100];

type Print<'a> = &'a dyn Fn(&Measure);

/// What to measure, and what to do with it.
pub(crate) struct Bench<'a> {
    pub(crate) root: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) only: Option<&'a str>,
    pub(crate) print: Print<'a>,
}

impl Bench<'_> {
    fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only == name)
    }

    pub(crate) async fn all(&self) -> Result<(), String> {
        let Self { root, scratch, print, .. } = *self;
        let echo = component(&root.join("tests/guests/echo/echo.wasm"))?;
        let memory_cache = component(&root.join("examples/memory-cache/memory-cache.wasm"))?;
        let runtime = open(root, scratch).await?;
        if self.wants("compile") {
            compile(&echo, print).await?;
        }
        if self.wants("aot_load") {
            aot_load(&echo, scratch, print).await?;
        }
        if self.wants("instantiate") {
            instantiate(&runtime, &memory_cache, print).await?;
        }
        if self.wants("empty_call") {
            empty_call(&runtime, &memory_cache, print).await?;
        }
        if self.wants("task_call") {
            task_call(&runtime, &echo, print).await?;
        }
        self.stores(&runtime).await?;
        if self.wants("metering") {
            metering(&echo, print).await?;
        }
        if self.wants("metering.warm") {
            metering_warm(&echo, print).await?;
        }
        runtime.stop();
        Ok(())
    }

    /// The cache through the plugin `sqlite`, against the same SQL in this process. Values of 100 bytes.
    async fn stores(&self, runtime: &Runtime) -> Result<(), String> {
        // As an embedder opens a file, and as the plugin's runtime does.
        let native = Native::open(&self.scratch.join("native.db"), "unix")?;
        let same = Native::open(&self.scratch.join("native-excl.db"), "unix-excl")?;
        let cache: &dyn Cache = runtime.stores().cache.as_deref().ok_or("there is no cache")?;
        let keys: Vec<String> = (0..KEYS).map(|number| format!("bench:{number:06}")).collect();
        for key in &keys {
            native.set(key, &VALUE)?;
            same.set(key, &VALUE)?;
            cache.set(key, &VALUE, None, Condition::Always).await.map_err(|error| error.to_string())?;
        }
        if self.wants("cache.get") {
            cache_get("cache.get", Some(1.3), &native, cache, &keys, self.print).await?;
        }
        if self.wants("cache.get.excl") {
            cache_get("cache.get.excl", None, &same, cache, &keys, self.print).await?;
        }
        if self.wants("cache.get.1MiB") {
            let large = vec![7; 1024 * 1024];
            native.set("large", &large)?;
            cache.set("large", &large, None, Condition::Always).await.map_err(|error| error.to_string())?;
            cache_get("cache.get.1MiB", Some(1.3), &native, cache, &["large".to_owned()], self.print).await?;
        }
        if self.wants("cache.get_many") {
            cache_get_many(&native, cache, &keys, self.print).await?;
        }
        if self.wants("cache.set") {
            cache_set(&native, cache, &keys, self.print).await?;
        }
        Ok(())
    }
}

fn component(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}; run `cargo xtask build`", path.display()))
}

async fn open(root: &Path, scratch: &Path) -> Result<Arc<Runtime>, String> {
    let sql = PluginPolicy { grants: Grants { sql: true, ..Grants::default() }, ..PluginPolicy::default() };
    let options = RuntimeOptions {
        plugin_dirs: vec![
            root.join("plugins/sqlite"),
            root.join("tests/guests/echo"),
            root.join("examples/memory-cache"),
        ],
        policies: BTreeMap::from([("sqlite".to_owned(), sql)]),
        stores: StoreSelection { cache: Some("sqlite".to_owned()), ..StoreSelection::none() },
        ..RuntimeOptions::new(scratch.join("data"))
    };
    Runtime::open(options).await.map_err(|error| error.to_string())
}

/// Compiling with fuel and epochs, against without.
async fn compile(wasm: &[u8], print: Print<'_>) -> Result<(), String> {
    let (metered, plain) = (Bare::new(true)?, Bare::new(false)?);
    let measure =
        paired("compile", "ms", None, async || plain.compile(wasm).map(drop), async || metered.compile(wasm).map(drop));
    print(&measure.await?);
    Ok(())
}

/// Reading compiled code from the authenticated cache, against compiling.
async fn aot_load(wasm: &[u8], scratch: &Path, print: Print<'_>) -> Result<(), String> {
    let sandbox = SandboxEngine::open().map_err(|error| format!("{error:#}"))?;
    let cache = CodeCache::open(&scratch.join("aot"), sandbox.engine())?;
    let plain = Bare::new(true)?;
    let load = || cache.component(sandbox.engine(), "bench", wasm).map_err(|error| format!("{error:#}"));
    load()?;
    let measure = paired("aot_load", "ms", None, async || plain.compile(wasm).map(drop), async || load().map(drop));
    print(&measure.await?);
    Ok(())
}

fn pool(runtime: &Runtime) -> Result<InstancePool<CachePlugin>, String> {
    let plugin = runtime.plugin("memory-cache").map_err(|error| error.to_string())?;
    Ok(InstancePool::new(Arc::clone(plugin)))
}

/// A new instance with all its limits and capabilities, against one with nothing.
async fn instantiate(runtime: &Runtime, wasm: &[u8], print: Print<'_>) -> Result<(), String> {
    let bare = Bare::new(true)?;
    let prepared = bare.cache(&bare.compile(wasm)?)?;
    let pool = pool(runtime)?;
    let measure = paired(
        "instantiate",
        "us",
        None,
        async || bare::instantiate_cache(&prepared, &mut bare.store()).await.map(drop),
        // A lease that is dropped throws its instance away.
        async || pool.lease().await.map(drop).map_err(|error| error.to_string()),
    );
    print(&measure.await?);
    Ok(())
}

/// A call on a warm instance with all its budgets, against the call alone.
async fn empty_call(runtime: &Runtime, wasm: &[u8], print: Print<'_>) -> Result<(), String> {
    let bare = Bare::new(true)?;
    let prepared = bare.cache(&bare.compile(wasm)?)?;
    let mut store = bare.store();
    let instance = bare::instantiate_cache(&prepared, &mut store).await?;
    let pool = pool(runtime)?;
    let ours = async || {
        let mut lease = pool.lease().await.map_err(|error| error.to_string())?;
        let timer = lease.timer();
        let (exports, store) = lease.parts();
        let result = timer.run(exports.compozy_store_cache().call_exists(store, "k")).await;
        lease.finish(result).map_err(|error| error.to_string())?.map(drop).map_err(|error| format!("{error:?}"))
    };
    let baseline = async || {
        bare.refuel(&mut store);
        bare::exists(&instance, &mut store, "k").await.map(drop)
    };
    print(&paired("empty_call", "us", None, baseline, ours).await?);
    Ok(())
}

/// A task on a fresh instance through the runtime, against wasmtime alone instantiating and calling.
async fn task_call(runtime: &Runtime, wasm: &[u8], print: Print<'_>) -> Result<(), String> {
    let bare = Bare::new(true)?;
    let prepared = bare.task(&bare.compile(wasm)?)?;
    let request = request();
    let baseline = async || {
        let mut store = bare.store();
        let task = bare::instantiate_task(&prepared, &mut store).await?;
        bare::execute(&task, &mut store, &request).await.map(drop)
    };
    let ours = async || {
        let request = TaskRequest {
            digest: None,
            supervisor: None,
            plugin: "echo".to_owned(),
            action: Some(request.action.clone()),
            input: request.input.clone(),
            config: request.config.clone(),
            execution_id: request.execution_id.clone(),
            task: request.task.clone(),
            idempotency_key: request.idempotency_key.clone(),
            attempt: request.attempt,
            timeout: Duration::from_secs(10),
        };
        runtime.execute(request).await.map(drop).map_err(|error| error.to_string())
    };
    print(&paired("task_call", "us", Some(1.5), baseline, ours).await?);
    Ok(())
}

fn request() -> Request {
    Request {
        action: "echo".to_owned(),
        input: br#"{"city":"Lisbon","month":7,"tags":["a","b","c"]}"#.to_vec(),
        config: b"null".to_vec(),
        execution_id: "01a2b3c4-d5e6-7f80-9a0b-1c2d3e4f5a6b".to_owned(),
        task: "weather".to_owned(),
        idempotency_key: "01a2b3c4-d5e6-7f80-9a0b-1c2d3e4f5a6b/weather".to_owned(),
        attempt: 1,
        timeout_ms: 10_000,
    }
}

async fn cache_get(
    name: &'static str,
    target: Option<f64>,
    native: &Native,
    cache: &dyn Cache,
    keys: &[String],
    print: Print<'_>,
) -> Result<(), String> {
    let (mut a, mut b) = (keys.iter().cycle(), keys.iter().cycle());
    let measure = paired(
        name,
        "us",
        target,
        async || native.get(next(&mut a))?.map(drop).ok_or_else(|| "a key is missing".to_owned()),
        async || {
            let found = cache.get(next(&mut b)).await.map_err(|error| error.to_string())?;
            found.map(drop).ok_or_else(|| "a key is missing".to_owned())
        },
    );
    print(&measure.await?);
    Ok(())
}

/// 100 keys in one call.
async fn cache_get_many(native: &Native, cache: &dyn Cache, keys: &[String], print: Print<'_>) -> Result<(), String> {
    let (mut a, mut b) = (keys.chunks(100).cycle(), keys.chunks(100).cycle());
    let sql = many_sql(100);
    let measure = paired(
        "cache.get_many",
        "us",
        Some(1.1),
        async || {
            let found = native.get_many(&sql, a.next().expect("a cycle has no end"))?;
            if found.iter().all(Option::is_some) { Ok(()) } else { Err("a key is missing".to_owned()) }
        },
        async || {
            let found = cache.get_many(b.next().expect("a cycle has no end")).await;
            let found = found.map_err(|error| error.to_string())?.found;
            if found.iter().all(Option::is_some) { Ok(()) } else { Err("a key is missing".to_owned()) }
        },
    );
    print(&measure.await?);
    Ok(())
}

async fn cache_set(native: &Native, cache: &dyn Cache, keys: &[String], print: Print<'_>) -> Result<(), String> {
    let (mut a, mut b) = (keys.iter().cycle(), keys.iter().cycle());
    let measure = paired(
        "cache.set",
        "us",
        Some(1.2),
        async || native.set(next(&mut a), &VALUE).map(drop),
        async || {
            let written = cache.set(next(&mut b), &VALUE, None, Condition::Always).await;
            written.map(drop).map_err(|error| error.to_string())
        },
    );
    print(&measure.await?);
    Ok(())
}

fn next<'a>(keys: &mut impl Iterator<Item = &'a String>) -> &'a str {
    keys.next().expect("a cycle has no end")
}

/// A task's call on a fresh instance, with fuel and epochs against without, both on bare wasmtime.
async fn metering(wasm: &[u8], print: Print<'_>) -> Result<(), String> {
    let (metered, plain) = (Bare::new(true)?, Bare::new(false)?);
    let (metered_pre, plain_pre) = (metered.task(&metered.compile(wasm)?)?, plain.task(&plain.compile(wasm)?)?);
    let request = request();
    let call = async |bare: &Bare, prepared| {
        let mut store = bare.store();
        let task = bare::instantiate_task(prepared, &mut store).await?;
        bare::execute(&task, &mut store, &request).await.map(drop)
    };
    let baseline = async || call(&plain, &plain_pre).await;
    print(&paired("metering", "us", Some(1.15), baseline, async || call(&metered, &metered_pre).await).await?);
    Ok(())
}

/// The same on warm instances, so that only the guest's own code counts: the price of metering at its highest.
async fn metering_warm(wasm: &[u8], print: Print<'_>) -> Result<(), String> {
    let (metered, plain) = (Bare::new(true)?, Bare::new(false)?);
    let request = request();
    let mut sides = Vec::new();
    for bare in [&metered, &plain] {
        let prepared = bare.task(&bare.compile(wasm)?)?;
        let mut store = bare.store();
        sides.push((bare::instantiate_task(&prepared, &mut store).await?, store));
    }
    let (plain_task, mut plain_store) = sides.pop().expect("two sides");
    let (metered_task, mut metered_store) = sides.pop().expect("two sides");
    let measure = paired(
        "metering.warm",
        "us",
        None,
        async || bare::execute(&plain_task, &mut plain_store, &request).await.map(drop),
        async || {
            metered.refuel(&mut metered_store);
            bare::execute(&metered_task, &mut metered_store, &request).await.map(drop)
        },
    );
    print(&measure.await?);
    Ok(())
}
