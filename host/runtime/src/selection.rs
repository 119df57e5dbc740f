//! Which plugin fills which store's role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::loader::LoadError;
use crate::plugin::{PluginHandle, Role};
use crate::pool::{Idle, InstancePool};
use crate::stores::{
    Changes, Monitor, PluginCache, PluginConfigStore, PluginEvents, PluginLocks, PluginMemoryStore, Remote, Stores,
};

/// Which plugin fills each store's role; `None` leaves a role empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSelection {
    /// The role `cache`.
    pub cache: Option<String>,
    /// The role `locks`.
    pub locks: Option<String>,
    /// The role `events`.
    pub events: Option<String>,
    /// The role `config-store`.
    pub config_store: Option<String>,
    /// The role `memory-store`.
    pub memory_store: Option<String>,
}

impl Default for StoreSelection {
    fn default() -> Self {
        Self::all("sqlite")
    }
}

impl StoreSelection {
    /// One plugin for every role.
    pub fn all(plugin: &str) -> Self {
        let mut selection = Self::none();
        for role in Role::STORES {
            *selection.role_mut(role).expect("a store's role") = Some(plugin.to_owned());
        }
        selection
    }

    /// No stores at all.
    pub fn none() -> Self {
        Self { cache: None, locks: None, events: None, config_store: None, memory_store: None }
    }

    /// Who fills this role; `None` where it is not a store's.
    pub fn role_mut(&mut self, role: Role) -> Option<&mut Option<String>> {
        match role {
            Role::Executor => None,
            Role::Cache => Some(&mut self.cache),
            Role::Locks => Some(&mut self.locks),
            Role::Events => Some(&mut self.events),
            Role::ConfigStore => Some(&mut self.config_store),
            Role::MemoryStore => Some(&mut self.memory_store),
        }
    }
}

/// The backends that were picked, and what the runtime keeps of them.
#[derive(Default)]
pub(crate) struct Selected {
    pub(crate) stores: Stores,
    /// The instances of all of them.
    pub(crate) pools: Vec<Arc<dyn Idle>>,
    pub(crate) monitors: Vec<Arc<Monitor>>,
}

/// Finds for each role the plugin that is to fill it; tells each one that cannot.
pub(crate) fn select(
    plugins: &BTreeMap<String, PluginHandle>,
    selection: &StoreSelection,
    errors: &mut Vec<LoadError>,
) -> Selected {
    let mut pick = |role: Role, wanted: &Option<String>| -> Option<PluginHandle> {
        let wanted = wanted.as_ref()?;
        match plugins.get(wanted) {
            Some(plugin) if plugin.roles().contains(&role) => return Some(Arc::clone(plugin)),
            // Why it is not there was told already.
            None if errors.iter().any(|error| error.names(wanted)) => {}
            found => errors.push(unfilled(role, wanted, found.is_some(), plugins)),
        }
        None
    };
    let mut pools: Vec<Arc<dyn Idle>> = Vec::new();
    let mut monitors = Vec::new();
    let changes = Arc::new(Changes::default());
    macro_rules! facade {
        ($role:expr, $wanted:expr, $facade:ident) => {
            pick($role, &$wanted).map(|plugin| {
                let monitor = Arc::new(Monitor::new($role, Arc::clone(&plugin.identity)));
                let pool = Arc::new(InstancePool::new(plugin));
                pools.push(Arc::clone(&pool) as _);
                monitors.push(Arc::clone(&monitor));
                Arc::new($facade::new(pool, monitor, Arc::clone(&changes))) as _
            })
        };
    }
    let mut stores = Stores {
        cache: facade!(Role::Cache, selection.cache, PluginCache),
        config: facade!(Role::ConfigStore, selection.config_store, PluginConfigStore),
        memory: facade!(Role::MemoryStore, selection.memory_store, PluginMemoryStore),
        ..Stores::default()
    };
    if let Some(locks) = facade!(Role::Locks, selection.locks, PluginLocks) {
        stores = stores.with_locks(locks, &changes);
    }
    if let Some(events) = facade!(Role::Events, selection.events, PluginEvents) {
        stores = stores.with_events(events, &changes);
    }
    changes.connect(remotes(plugins, selection));
    Selected { stores, pools, monitors }
}

/// Where other hosts tell of what happens in the stores that one can wait for.
fn remotes(plugins: &BTreeMap<String, PluginHandle>, selection: &StoreSelection) -> Vec<Remote> {
    let names: BTreeSet<&String> = [&selection.locks, &selection.events].into_iter().flatten().collect();
    let clients = names.into_iter().filter_map(|name| plugins.get(name)?.redis.clone());
    clients.map(|client| Box::new(move || client.subscribe()) as Remote).collect()
}

fn unfilled(role: Role, wanted: &str, present: bool, plugins: &BTreeMap<String, PluginHandle>) -> LoadError {
    let interface = role.interface();
    let able =
        plugins.values().filter(|plugin| plugin.roles().contains(&role)).map(|plugin| plugin.identity.name.as_str());
    let able: Vec<&str> = able.collect();
    let why = if present { "which does not export it" } else { "which is not installed" };
    let what = if able.is_empty() {
        "no installed plugin does; install one".to_owned()
    } else {
        format!("installed ones that do: {}", able.join(", "))
    };
    let message = format!("`{interface}` is to be filled by plugin `{wanted}`, {why}; {what}");
    LoadError::new("ROLE_UNFILLED", "the stores", message)
}
