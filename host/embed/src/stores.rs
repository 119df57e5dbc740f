//! Which plugin keeps what, and where the Redis server is: project file, then environment, then command line.

use std::path::{Path, PathBuf};

use compozy_plan::{Diagnostic, Secret, StoreSetting};
use compozy_runtime::{RedisSettings, Role, StoreSelection};

use crate::options::Overrides;
use crate::project::problem;

/// The built-in that keeps stores on a Redis server.
pub(crate) const REDIS_PLUGIN: &str = "redis";

/// Where a setting is that no file holds.
const COMMAND_LINE: &str = "the command line or environment";

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
    /// Puts the settings together, and tells everything that is wrong with them.
    pub fn resolve(
        overrides: &Overrides,
        stores: &[StoreSetting],
        url: Option<&Secret>,
        project_file: &Path,
    ) -> (Self, Vec<Diagnostic>) {
        let wrong = |file: &Path, message: String| problem(file, "PROJECT_STORE_SETTING", message);
        let mut problems = Vec::new();
        let mut selection = StoreSelection::default();
        for StoreSetting { role, plugin, line, column } in stores {
            match role_named(role) {
                Ok(role) => choose(&mut selection, role, plugin),
                Err(why) => {
                    problems.push(Diagnostic { line: *line, column: *column, ..wrong(project_file, why) });
                }
            }
        }
        let mut chosen: Vec<Role> = Vec::new();
        for StoreChoice { role, plugin } in &overrides.stores {
            if chosen.contains(role) {
                let message = format!("`--store` names the role `{}` twice; it can have one plugin", role.name());
                problems.push(wrong(Path::new(COMMAND_LINE), message));
            }
            chosen.push(*role);
            choose(&mut selection, *role, plugin);
        }
        let redis = match redis_url(overrides, url, project_file) {
            Ok(Some(url)) => RedisSettings::parse(&url).map(Some).map_err(|error| error.to_string()),
            Ok(None) => serverless(&selection).map_or(Ok(None), Err),
            Err(why) => Err(why),
        };
        let place = if overrides.redis_url.is_some() { Path::new(COMMAND_LINE) } else { project_file };
        let redis = redis.unwrap_or_else(|why| {
            problems.push(wrong(place, why));
            None
        });
        (Self { selection, redis }, problems)
    }
}

fn choose(selection: &mut StoreSelection, role: Role, plugin: &str) {
    *selection.role_mut(role).expect("a store's role") = Some(plugin.to_owned());
}

/// The address of the Redis server, wherever it is told. Errors never have it: it may hold a password.
fn redis_url(overrides: &Overrides, url: Option<&Secret>, project_file: &Path) -> Result<Option<String>, String> {
    // The argument parser has put the environment variable where the flag is missing.
    if let Some(url) = &overrides.redis_url {
        return Ok(Some(url.clone()));
    }
    match url {
        None => Ok(None),
        Some(Secret::Value(url)) => Ok(Some(url.clone())),
        Some(Secret::Env(name)) => std::env::var(name).map(Some).map_err(|_| {
            format!("`redis.url` is to come from the environment variable {name}, which is not set or not UTF-8")
        }),
        Some(Secret::File(path)) => {
            let path: PathBuf = project_file.parent().unwrap_or(Path::new("")).join(path);
            let text = std::fs::read_to_string(&path).map_err(|error| {
                format!("`redis.url` is to come from the file `{}`, which cannot be read: {error}", path.display())
            })?;
            Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
    }
}

/// A role that needs a Redis server, while none is named.
fn serverless(selection: &StoreSelection) -> Option<String> {
    let mut selection = selection.clone();
    let mut on_redis =
        |role: &Role| selection.role_mut(*role).is_some_and(|plugin| plugin.as_deref() == Some(REDIS_PLUGIN));
    let roles: Vec<&str> = Role::STORES.into_iter().filter(|role| on_redis(role)).map(Role::name).collect();
    (!roles.is_empty()).then(|| {
        format!(
            "`{}` {} to be kept by the plugin `{REDIS_PLUGIN}`, but no Redis server is named; set `redis: {{ url: redis://127.0.0.1:6379 }}` in \
             compozy.yaml, COMPOZY_REDIS_URL or --redis-url",
            roles.join("`, `"),
            if roles.len() == 1 { "is" } else { "are" }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(choices: &[&str]) -> Overrides {
        let stores = choices.iter().map(|choice| choice.parse().expect("ROLE=PLUGIN")).collect();
        Overrides { stores, redis_url: None }
    }

    fn setting(role: &str, plugin: &str) -> StoreSetting {
        StoreSetting { role: role.to_owned(), plugin: plugin.to_owned(), line: 3, column: 5 }
    }

    #[test]
    fn the_command_line_goes_before_the_project_file() {
        let stores = [setting("cache", "mine"), setting("locks", "mine")];
        let overrides = chosen(&["cache=other"]);
        let (found, problems) = StoreSettings::resolve(&overrides, &stores, None, Path::new("p/compozy.yaml"));
        assert!(problems.is_empty(), "{problems:?}");
        let StoreSelection { cache, locks, events, .. } = found.selection;
        let named = [cache, locks, events].map(Option::unwrap);
        assert_eq!(named, ["other", "mine", "sqlite"]);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let stores = [setting("cahce", "mine"), setting("locks", "redis")];
        let overrides = chosen(&["events=a", "events=b"]);
        let (_, problems) = StoreSettings::resolve(&overrides, &stores, None, Path::new("p/compozy.yaml"));
        let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for words in ["p/compozy.yaml:3:5", "`cahce`", "`events` twice", "`locks` is to be kept", "--redis-url"] {
            assert!(problems.contains(words), "{words} is missing in:\n{problems}");
        }
    }

    #[test]
    fn the_address_comes_from_where_the_project_says() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("url"), "redis://10.0.0.1:6380\n").expect("written");
        let file = folder.path().join("compozy.yaml");
        let from = |secret: Secret| redis_url(&Overrides::default(), Some(&secret), &file);
        assert_eq!(from(Secret::File("url".to_owned())), Ok(Some("redis://10.0.0.1:6380".to_owned())));
        let missing = from(Secret::Env("COMPOZY_TEST_NOT_SET".to_owned())).expect_err("not set");
        assert!(missing.contains("COMPOZY_TEST_NOT_SET"), "{missing}");
        let overridden = Overrides { redis_url: Some("redis://a".to_owned()), ..Overrides::default() };
        let flag = redis_url(&overridden, Some(&Secret::Value("redis://b".to_owned())), &file);
        assert_eq!(flag, Ok(Some("redis://a".to_owned())));
    }
}
