//! What is told of a host.

use std::sync::Arc;

use compozy_runtime::Runtime;
use compozy_runtime::stores::{Circuit, RoleStatus};
use compozy_server::{HostHealth, HostInfo};

use crate::options::Mode;
use crate::services::Services;

/// For `health`.
pub(crate) struct Info {
    mode: Mode,
    runtime: Arc<Runtime>,
    services: Services,
}

impl Info {
    pub(crate) fn new(mode: Mode, runtime: Arc<Runtime>, services: Services) -> Self {
        Self { mode, runtime, services }
    }
}

impl HostInfo for Info {
    fn health(&self) -> HostHealth {
        let roles = self.runtime.roles();
        let away = roles
            .iter()
            .find(|role| role.circuit != Circuit::Closed)
            .map(|role| format!("the store `{}` (plugin {}) does not answer", role.role, role.plugin.name));
        let stopped = (!self.runtime.ticking()).then(|| "the clock that ends endless plugins has stopped".to_owned());
        let status = |role: &RoleStatus| Some((role.role.to_owned(), serde_json::to_value(role).ok()?));
        HostHealth {
            mode: self.mode.name(),
            trouble: stopped.or(away),
            stores: roles.iter().filter_map(status).collect(),
            plugins: self.runtime.plugins().iter().filter_map(|plugin| serde_json::to_value(plugin).ok()).collect(),
            services: self.services.health(),
        }
    }
}
