//! Instances that are kept between calls, for stores.
//!
//! A call takes an idle instance or makes one, and gives it back. One that trapped, ran out of a budget or whose caller went away
//! in the middle is never called again.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::bindings::cache::CachePlugin;
use crate::bindings::config_store::ConfigStorePlugin;
use crate::bindings::events::EventsPlugin;
use crate::bindings::locks::LocksPlugin;
use crate::bindings::memory_store::MemoryStorePlugin;
use crate::call::CallTimer;
use crate::error::CallError;
use crate::guest::GuestState;
use crate::plugin::{Plugin, PluginHandle};

/// The exports of one store role.
pub trait RoleExports: Sized + Send + Sync + 'static {
    /// Makes an instance in this store; `None` when the plugin does not have the role.
    fn instantiate(
        plugin: &Plugin,
        store: &mut Store<GuestState>,
    ) -> impl Future<Output = wasmtime::Result<Option<Self>>> + Send;
}

macro_rules! role {
    ($exports:ty, $prepared:ident) => {
        impl RoleExports for $exports {
            async fn instantiate(plugin: &Plugin, store: &mut Store<GuestState>) -> wasmtime::Result<Option<Self>> {
                match &plugin.prepared.$prepared {
                    Some(prepared) => prepared.instantiate_async(store).await.map(Some),
                    None => Ok(None),
                }
            }
        }
    };
}
role!(CachePlugin, cache);
role!(LocksPlugin, locks);
role!(EventsPlugin, events);
role!(ConfigStorePlugin, config);
role!(MemoryStorePlugin, memory);

/// The instances of one plugin in one role.
pub struct InstancePool<E> {
    plugin: PluginHandle,
    idle: Mutex<Vec<Box<Warm<E>>>>,
}

/// Boxed: it changes hands twice in each call.
struct Warm<E> {
    store: Store<GuestState>,
    exports: E,
}

impl<E> std::fmt::Debug for InstancePool<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstancePool").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

impl<E: RoleExports> InstancePool<E> {
    /// A pool without instances; they are made when they are needed, at most `concurrency` of them.
    pub fn new(plugin: PluginHandle) -> Self {
        Self { plugin, idle: Mutex::new(Vec::new()) }
    }

    /// Whose instances these are.
    pub fn plugin(&self) -> &PluginHandle {
        &self.plugin
    }

    /// Waits for a place and takes an instance for one call, with all budgets of a call.
    pub async fn lease(&self) -> Result<Lease<'_, E>, CallError> {
        let place = self.plugin.enter().await?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut warm = match idle {
            Some(warm) => warm,
            // Boxed, because every call would carry the room for it.
            None => Box::pin(self.instantiate()).await?,
        };
        let timer = self.plugin.begin(&mut warm.store);
        Ok(Lease { pool: self, warm: Some(warm), timer: Some(timer), _place: place })
    }

    async fn instantiate(&self) -> Result<Box<Warm<E>>, CallError> {
        let mut store = self.plugin.store(false)?;
        let timer = self.plugin.begin(&mut store);
        match timer.run(E::instantiate(&self.plugin, &mut store)).await {
            Ok(Some(exports)) => Ok(Box::new(Warm { store, exports })),
            Ok(None) => Err(CallError::Internal {
                plugin: Arc::clone(self.plugin.identity()),
                reason: "it does not have the role of this pool".to_owned(),
            }),
            Err(error) => Err(self.plugin.failure(&error)),
        }
    }
}

/// What the runtime does with a pool of whatever role.
pub(crate) trait Idle: Send + Sync {
    /// Throws idle instances away.
    fn clear(&self);
    /// How many instances are idle.
    fn count(&self) -> usize;
}

impl<E: RoleExports> Idle for InstancePool<E> {
    fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn count(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// One instance for one call. Dropped without [`Lease::finish`], it throws its instance away.
pub struct Lease<'a, E: RoleExports> {
    pool: &'a InstancePool<E>,
    warm: Option<Box<Warm<E>>>,
    timer: Option<CallTimer>,
    _place: OwnedSemaphorePermit,
}

impl<E: RoleExports> std::fmt::Debug for Lease<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("pool", self.pool).finish_non_exhaustive()
    }
}

impl<E: RoleExports> Lease<'_, E> {
    /// The clock of this call. To be taken once.
    pub fn timer(&mut self) -> CallTimer {
        self.timer.take().expect("a lease is for one call")
    }

    /// The exports and the store to call them with.
    pub fn parts(&mut self) -> (&E, &mut Store<GuestState>) {
        let warm = self.warm.as_mut().expect("present until `finish`");
        (&warm.exports, &mut warm.store)
    }

    /// Gives the instance back when the call ended well, and throws it away when it did not.
    pub fn finish<T>(mut self, result: wasmtime::Result<T>) -> Result<T, CallError> {
        match result {
            Ok(answer) => {
                let mut warm = self.warm.take().expect("present until `finish`");
                warm.store.data_mut().end_call();
                let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
                // Asked under the lock: `stop` closes first and clears then, so that nothing is left behind.
                if !self.pool.plugin.gate.closed() {
                    idle.push(warm);
                }
                Ok(answer)
            }
            Err(error) => Err(self.pool.plugin.failure(&error)),
        }
    }
}
