//! Which plugin keeps what, and where the Redis server is: the configuration in the runtime's terms.

use compozy_config::{Loaded, Problem};
use compozy_runtime::{RedisSettings, Role, StoreSelection};

/// The built-in that keeps stores on a Redis server.
pub(crate) const REDIS_PLUGIN: &str = "redis";

/// What was found.
#[derive(Debug, Default)]
pub struct StoreSettings {
    /// Which plugin keeps what.
    pub selection: StoreSelection,
    /// The Redis server, if one is named.
    pub redis: Option<RedisSettings>,
}

/// `ROLE=PLUGIN` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreChoice {
    /// The role.
    pub role: Role,
    /// The plugin's name.
    pub plugin: String,
}

impl std::str::FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((role, plugin)) if !plugin.is_empty() => {
                Ok(Self { role: role_named(role)?, plugin: plugin.to_owned() })
            }
            _ => Err(format!("`{text}` names no role and plugin; write for example `cache=redis`")),
        }
    }
}

/// The store of this name.
pub fn role_named(name: &str) -> Result<Role, String> {
    Role::STORES.into_iter().find(|role| role.name() == name).ok_or_else(|| {
        let known = Role::STORES.map(Role::name).join(", ");
        format!("there is no store `{name}`; the stores are {known}")
    })
}

impl StoreSettings {
    /// Puts the settings together, and tells what of them the runtime cannot use.
    pub fn of(loaded: &Loaded) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut selection = StoreSelection::default();
        for role in Role::STORES {
            let plugin = loaded.config.stores.plugins.get(role.name()).cloned();
            // That it needs a server is told already; that nobody keeps the store then would only repeat it.
            let plugin = plugin.filter(|plugin| plugin != REDIS_PLUGIN || loaded.config.redis_url.is_some());
            *selection.role_mut(role).expect("a store's role") = plugin;
        }
        let parsed = loaded.config.redis_url.as_ref().map(|url| RedisSettings::parse(url.expose())).transpose();
        let redis = parsed.unwrap_or_else(|error| {
            problems.push(loaded.settings.problem("CONFIG_INVALID_VALUE", "redis.url", error.to_string()));
            None
        });
        (Self { selection, redis }, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_same_stores_as_the_runtime() {
        assert_eq!(compozy_config::keys::STORES, Role::STORES.map(Role::name));
    }
}
