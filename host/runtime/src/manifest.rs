//! `plugin.toml`: who a plugin is and what it asks for. All problems are told at once, each with its line.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::capabilities::{Access, Origin, Requested, StoreKind};
use crate::error::nearest;
use crate::limits::{Limit, Scope, TABLE};

/// A manifest may have this many bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
const NAME_BYTES_MAX: usize = 64;
const VERSION_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;

/// A manifest that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Lower-case letters, digits and `-`; 1 to 64 bytes.
    pub name: String,
    /// `major.minor.patch`, with what semantic versions allow behind it.
    pub version: String,
    /// One sentence for a person.
    pub description: String,
    /// The component's file beside the manifest. Default: `<name>.wasm`.
    pub component: String,
    /// What it requests.
    pub capabilities: Requested,
    /// Limits that it wants to differ from the defaults.
    pub limits: BTreeMap<Limit, u64>,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads a manifest.
pub fn parse(text: &str) -> Result<Manifest, Vec<Problem>> {
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("the file has {} bytes, allowed are {MANIFEST_BYTES_MAX}", text.len());
        return Err(vec![Problem { line: 1, message }]);
    }
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(vec![Problem { line: line_of(text, at), message: error.message().to_owned() }]);
        }
    };
    let mut reader = Reader { text, problems: Vec::new() };
    let manifest = reader.manifest(&table);
    if reader.problems.is_empty() {
        return Ok(manifest);
    }
    reader.problems.sort_by_key(|problem| problem.line);
    Err(reader.problems)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        let line = line_of(self.text, at.span().start);
        self.problems.push(Problem { line, message: message.into() });
    }

    fn manifest(&mut self, root: &Spanned<DeTable<'_>>) -> Manifest {
        let table = root.get_ref();
        self.known_keys(table, "", &["name", "version", "description", "component", "capabilities", "limits"]);
        let name = self.required(root, "name");
        let version = self.required(root, "version");
        let description = self.text_of(table.get("description"), "description").unwrap_or_default();
        let component = self.text_of(table.get("component"), "component");
        let component = component.unwrap_or_else(|| format!("{name}.wasm"));
        self.check(table.get("name"), valid_name(&name) || name.is_empty(), || {
            format!("`name` is `{name}`: write lower-case letters, digits and `-`, beginning with a letter, 1 to {NAME_BYTES_MAX} bytes")
        });
        self.check(table.get("version"), valid_version(&version) || version.is_empty(), || {
            format!("`version` is `{version}`: write three numbers like `0.1.0`")
        });
        self.check(table.get("component"), is_file_name(&component), || {
            format!("`component` is `{component}`: write the name of a .wasm file in the plugin's own folder")
        });
        let capabilities = self.section(table, "capabilities").map(|section| self.capabilities(section));
        let limits = self.section(table, "limits").map(|section| self.limits(section));
        Manifest {
            name,
            version,
            description,
            component,
            capabilities: capabilities.unwrap_or_default(),
            limits: limits.unwrap_or_default(),
        }
    }

    fn check<T>(&mut self, at: Option<&Spanned<T>>, holds: bool, message: impl FnOnce() -> String) {
        match at {
            Some(at) if !holds => self.problem(at, message()),
            _ => {}
        }
    }

    fn known_keys(&mut self, table: &DeTable<'_>, place: &str, known: &[&str]) {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are: {}", known.join(", ")),
            };
            self.problem(key, format!("unknown key `{name}`{place}; {hint}"));
        }
    }

    fn required(&mut self, root: &Spanned<DeTable<'_>>, key: &str) -> String {
        match root.get_ref().get(key) {
            None => {
                self.problem(&Spanned::new(0..0, ()), format!("the key `{key}` is missing"));
                String::new()
            }
            found => {
                let text = self.text_of(found, key).unwrap_or_default();
                self.check(found, !text.is_empty(), || format!("`{key}` is empty or no string"));
                text
            }
        }
    }

    fn text_of(&mut self, value: Option<&Spanned<DeValue<'_>>>, key: &str) -> Option<String> {
        let value = value?;
        let Some(text) = value.get_ref().as_str() else {
            self.problem(value, format!("`{key}` must be a string, not {}", article(value.get_ref().type_str())));
            return None;
        };
        if text.len() > TEXT_BYTES_MAX {
            self.problem(value, format!("`{key}` has {} bytes, allowed are {TEXT_BYTES_MAX}", text.len()));
            return None;
        }
        Some(text.to_owned())
    }

    fn section<'t, 'i>(&mut self, table: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
        let value = table.get(key)?;
        let section = value.get_ref().as_table();
        self.check(Some(value), section.is_some(), || format!("`{key}` must be a section: write `[{key}]`"));
        section
    }

    fn capabilities(&mut self, table: &DeTable<'_>) -> Requested {
        let known = ["redis", "sql", "stores", "env", "http", "folders"];
        self.known_keys(table, " in [capabilities]", &known);
        let mut requested =
            Requested { redis: self.flag(table, "redis"), sql: self.flag(table, "sql"), ..Requested::default() };
        requested.stores = self.set(table, "stores", |text| {
            let names = StoreKind::ALL.map(StoreKind::name).join(", ");
            StoreKind::from_name(text).ok_or_else(|| format!("there is no store `{text}`; known are: {names}"))
        });
        requested.env = self.set(table, "env", |text| {
            let valid = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !text.is_empty();
            if valid { Ok(text.to_owned()) } else { Err(format!("`{text}` is no name of an environment variable")) }
        });
        requested.http = self.set(table, "http", Origin::parse);
        requested.folders = self.folders(table);
        requested
    }

    fn flag(&mut self, table: &DeTable<'_>, key: &str) -> bool {
        let Some(value) = table.get(key) else { return false };
        let flag = value.get_ref().as_bool();
        self.check(Some(value), flag.is_some(), || format!("`{key}` must be true or false"));
        flag.unwrap_or_default()
    }

    fn items<'t, 'i>(&mut self, table: &'t DeTable<'i>, key: &str) -> &'t [Spanned<DeValue<'i>>] {
        let Some(value) = table.get(key) else { return &[] };
        let items = value.get_ref().as_array();
        self.check(Some(value), items.is_some(), || format!("`{key}` must be a list: `{key} = [...]`"));
        items.map_or(&[], |items| &items[..])
    }

    fn set<T: Ord>(&mut self, table: &DeTable<'_>, key: &str, read: impl Fn(&str) -> Result<T, String>) -> BTreeSet<T> {
        let mut set = BTreeSet::new();
        for item in self.items(table, key) {
            match item.get_ref().as_str().map(&read) {
                Some(Ok(value)) => drop(set.insert(value)),
                Some(Err(message)) => self.problem(item, format!("in `{key}`: {message}")),
                None => self.problem(item, format!("`{key}` must hold strings")),
            }
        }
        set
    }

    fn folders(&mut self, table: &DeTable<'_>) -> BTreeMap<String, Access> {
        let mut folders = BTreeMap::new();
        for item in self.items(table, "folders") {
            let Some(folder) = item.get_ref().as_table() else {
                self.problem(item, "`folders` must hold tables like `{ guest = \"/data\", access = \"read\" }`");
                continue;
            };
            self.known_keys(folder, " in `folders`", &["guest", "access"]);
            let guest = self.text_of(folder.get("guest"), "guest");
            let access = self.text_of(folder.get("access"), "access");
            let access = match access.as_deref() {
                None | Some("read") => Access::Read,
                Some("read-write") => Access::ReadWrite,
                Some(other) => {
                    self.problem(item, format!("`access` is `{other}`: write `read` or `read-write`"));
                    continue;
                }
            };
            match guest {
                Some(guest) if valid_guest_path(&guest) => {
                    let again = folders.insert(guest.clone(), access).is_some();
                    self.check(Some(item), !again, || format!("the folder `{guest}` is requested twice"));
                }
                Some(guest) => self
                    .problem(item, format!("`guest` is `{guest}`: write an absolute path without `..`, like `/data`")),
                None => self.problem(item, "`guest` is missing: the path under which the plugin sees the folder"),
            }
        }
        folders
    }

    fn limits(&mut self, table: &DeTable<'_>) -> BTreeMap<Limit, u64> {
        let known: Vec<&str> = TABLE.iter().filter(|spec| spec.scope == Scope::Plugin).map(|spec| spec.name).collect();
        let mut limits = BTreeMap::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let limit = Limit::from_name(name).filter(|_| known.contains(&name));
            let Some(limit) = limit else {
                let hint = nearest(name, known.iter().copied()).map_or_else(
                    || format!("known are: {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.problem(key, format!("unknown limit `{name}` in [limits]; {hint}"));
                continue;
            };
            let spec = limit.spec();
            let number = value.get_ref().as_integer().and_then(|integer| {
                let digits: String = integer.as_str().chars().filter(|c| *c != '_').collect();
                u64::from_str_radix(&digits, integer.radix()).ok()
            });
            match number {
                Some(number) if (1..=spec.max).contains(&number) => drop(limits.insert(limit, number)),
                _ => {
                    let message = format!("`{name}` must be a whole number from 1 to {} ({})", spec.max, spec.unit);
                    self.problem(value, message);
                }
            }
        }
        limits
    }
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if an { "an" } else { "a" })
}

fn valid_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(known) && name.as_bytes()[0].is_ascii_lowercase()
}

fn valid_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    version.len() <= VERSION_BYTES_MAX
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && version.bytes().all(rest)
        && !version.ends_with(['-', '+', '.'])
}

fn is_file_name(name: &str) -> bool {
    // Exactly these letters: file systems differ in whether `.WASM` is the same.
    name.strip_suffix(".wasm").is_some() && name.len() > ".wasm".len() && !name.contains(['/', '\\', '\0'])
}

fn valid_guest_path(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.ends_with('/')
        && path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(text).expect_err("must be refused").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_full_manifest_is_read() {
        let manifest = parse(
            r#"
name = "weather"
version = "1.2.3-rc.1"
description = "Climate of cities"
[capabilities]
sql = true
stores = ["cache", "memory"]
env = ["API_KEY"]
http = ["https://api.example.com"]
folders = [{ guest = "/data", access = "read-write" }, { guest = "/in" }]
[limits]
fuel = 2_000_000_000
log_bytes = 0x1000
"#,
        )
        .unwrap();
        assert_eq!(manifest.component, "weather.wasm");
        assert_eq!(manifest.capabilities.stores, [StoreKind::Cache, StoreKind::Memory].into());
        assert_eq!(manifest.capabilities.folders["/data"], Access::ReadWrite);
        assert_eq!(manifest.capabilities.folders["/in"], Access::Read);
        assert_eq!(manifest.limits[&Limit::Fuel], 2_000_000_000);
        assert_eq!(manifest.limits[&Limit::LogBytes], 4096);
    }

    #[test]
    fn all_problems_are_told_with_their_lines() {
        let text = "nam = \"x\"\nversion = \"1.2\"\n[capabilities]\nsqll = true\nstores = [\"cach\"]\nhttp = [\"api\"]\n\
                    folders = [{ guest = \"../x\" }]\n[limits]\nfule = 1\nwall_ms = -1\nstack_bytes = 5\n";
        assert_eq!(
            problems(text),
            [
                "line 1: unknown key `nam`; did you mean `name`?",
                "line 1: the key `name` is missing",
                "line 2: `version` is `1.2`: write three numbers like `0.1.0`",
                "line 4: unknown key `sqll` in [capabilities]; did you mean `sql`?",
                "line 5: in `stores`: there is no store `cach`; known are: cache, config, memory",
                "line 6: in `http`: `api` is no origin: write `https://host` or `http://host:port`, without a path",
                "line 7: `guest` is `../x`: write an absolute path without `..`, like `/data`",
                "line 9: unknown limit `fule` in [limits]; did you mean `fuel`?",
                "line 10: `wall_ms` must be a whole number from 1 to 3600000 (ms)",
                &format!(
                    "line 11: unknown limit `stack_bytes` in [limits]; known are: {}",
                    TABLE.iter().filter(|s| s.scope == Scope::Plugin).map(|s| s.name).collect::<Vec<_>>().join(", ")
                ),
            ]
        );
    }

    #[test]
    fn broken_toml_and_wrong_types_are_told() {
        assert!(problems("name = \"a\"\nversion = \n")[0].starts_with("line 2: "));
        assert_eq!(
            problems("name = 5\nversion = \"1.0.0\"\ncapabilities = 1\n"),
            [
                "line 1: `name` must be a string, not an integer",
                "line 1: `name` is empty or no string",
                "line 3: `capabilities` must be a section: write `[capabilities]`"
            ]
        );
    }

    #[test]
    fn names_versions_and_files_are_checked() {
        for name in ["", "A", "1a", "a_b", "a b", "-a", &"a".repeat(65)] {
            assert!(!valid_name(name), "{name}");
        }
        assert!(valid_name("a-1") && valid_name(&"a".repeat(64)));
        for version in ["1", "1.2", "1.2.x", "v1.2.3", "1.2.3-", "1..3", "1.2.3 4"] {
            assert!(!valid_version(version), "{version}");
        }
        assert!(valid_version("0.1.0") && valid_version("1.2.3-rc.1+5"));
        for file in ["../a.wasm", "a.txt", ".wasm", "/a.wasm"] {
            assert!(!is_file_name(file), "{file}");
        }
    }

    #[test]
    fn a_manifest_may_not_be_large() {
        let text = format!("name = \"a\"\nversion = \"0.1.0\"\n# {}", "x".repeat(MANIFEST_BYTES_MAX));
        assert!(problems(&text)[0].contains("allowed are 65536"));
    }
}
