//! The baseline: an embedder who calls wasmtime and adds nothing, not even what safety asks for.

use compozy_runtime::bindings::cache::{CachePlugin, CachePluginPre};
use compozy_runtime::bindings::task::exports::compozy::task::executor::Request;
use compozy_runtime::bindings::task::{TaskPlugin, TaskPluginPre};
use compozy_runtime::engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceTable, Val};
use wasmtime::{Config, Engine, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn say(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

/// An engine of the host's own configuration, with metering or without.
pub(crate) struct Bare {
    pub(crate) engine: Engine,
    metering: bool,
}

impl Bare {
    pub(crate) fn new(metering: bool) -> Result<Self, String> {
        let mut config: Config = engine::config(metering);
        let engine = Engine::new(engine::with_pool(&mut config)).map_err(say)?;
        Ok(Self { engine, metering })
    }

    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Component, String> {
        Component::from_binary(&self.engine, wasm).map_err(say)
    }

    fn prepare(&self, component: &Component) -> Result<wasmtime::component::InstancePre<State>, String> {
        let mut linker = Linker::<State>::new(&self.engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(say)?;
        self.forbid_our_imports(component, &mut linker)?;
        linker.instantiate_pre(component).map_err(say)
    }

    /// What is measured here calls nothing of `compozy:host`; the imports must exist all the same.
    fn forbid_our_imports(&self, component: &Component, linker: &mut Linker<State>) -> Result<(), String> {
        for (name, item) in component.component_type().imports(&self.engine) {
            let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
            if !name.starts_with("compozy:") {
                continue;
            }
            let mut instance = linker.instance(name).map_err(say)?;
            for (function, item) in interface.exports(&self.engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    let refuse = |_: StoreContextMut<'_, State>, _, _: &[Val], _: &mut [Val]| {
                        Err(wasmtime::Error::msg("the baseline offers nothing"))
                    };
                    instance.func_new(function, refuse).map_err(say)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn task(&self, component: &Component) -> Result<TaskPluginPre<State>, String> {
        TaskPluginPre::new(self.prepare(component)?).map_err(say)
    }

    pub(crate) fn cache(&self, component: &Component) -> Result<CachePluginPre<State>, String> {
        CachePluginPre::new(self.prepare(component)?).map_err(say)
    }

    pub(crate) fn store(&self) -> Store<State> {
        let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, state);
        self.refuel(&mut store);
        store
    }

    /// Budgets that never end, since nobody turns the epochs of this engine.
    pub(crate) fn refuel(&self, store: &mut Store<State>) {
        if self.metering {
            store.set_fuel(u64::MAX).expect("this engine counts fuel");
            store.set_epoch_deadline(1);
        }
    }
}

pub(crate) async fn instantiate_cache(
    pre: &CachePluginPre<State>,
    store: &mut Store<State>,
) -> Result<CachePlugin, String> {
    pre.instantiate_async(store).await.map_err(say)
}

pub(crate) async fn instantiate_task(
    pre: &TaskPluginPre<State>,
    store: &mut Store<State>,
) -> Result<TaskPlugin, String> {
    pre.instantiate_async(store).await.map_err(say)
}

pub(crate) async fn exists(cache: &CachePlugin, store: &mut Store<State>, key: &str) -> Result<bool, String> {
    cache.compozy_store_cache().call_exists(store, key).await.map_err(say)?.map_err(|error| format!("{error:?}"))
}

pub(crate) async fn execute(task: &TaskPlugin, store: &mut Store<State>, request: &Request) -> Result<Vec<u8>, String> {
    task.compozy_task_executor().call_execute(store, request).await.map_err(say)?.map_err(|error| format!("{error:?}"))
}
