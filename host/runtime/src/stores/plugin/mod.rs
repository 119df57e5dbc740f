//! The traits over a store plugin: each call takes a warm instance from the plugin's pool and gives it back.
//!
//! Every call passes the role's [`Monitor`]: it is refused while the circuit is open, timed, counted, and tried again
//! where the error says that this can help and the operation may be repeated (`Again`).

use std::sync::Arc;

use crate::pool::InstancePool;
use crate::stores::{Changes, Monitor};

mod cache;
mod config;
mod events;
mod locks;
mod memory;

pub use cache::PluginCache;
pub use config::PluginConfigStore;
pub use events::PluginEvents;
pub use locks::PluginLocks;
pub use memory::PluginMemoryStore;

/// One role of a plugin, over the instances of this pool.
#[derive(Debug)]
pub struct PluginStore<E> {
    pool: Arc<InstancePool<E>>,
    monitor: Arc<Monitor>,
    changes: Arc<Changes>,
}

impl<E> PluginStore<E> {
    /// Over the instances of this pool, watched by this monitor. What others may wait for is announced on `changes`.
    pub fn new(
        pool: impl Into<Arc<InstancePool<E>>>,
        monitor: impl Into<Arc<Monitor>>,
        changes: impl Into<Arc<Changes>>,
    ) -> Self {
        Self { pool: pool.into(), monitor: monitor.into(), changes: changes.into() }
    }
}

/// Calls one exported function on a leased instance. The instance goes back to the pool, or away when it trapped.
/// `Again`: a second call with the same arguments does no harm. `Once`: it could, when the first took place unseen.
macro_rules! call {
    ($self:ident, $repeat:ident, $interface:ident.$function:ident($($argument:expr),*)) => {{
        let mut operation = $self.monitor.begin(crate::stores::Repeat::$repeat)?;
        loop {
            let result = async {
                let mut lease = $self.pool.lease().await?;
                let timer = lease.timer();
                let (exports, store) = lease.parts();
                let result = timer.run(exports.$interface().$function(store $(, $argument)*)).await;
                Ok(lease.finish(result)??)
            }
            .await;
            match operation.end(result) {
                std::ops::ControlFlow::Break(result) => break result,
                std::ops::ControlFlow::Continue(pause) => tokio::time::sleep(pause).await,
            }
        }
    }};
}
use call;
