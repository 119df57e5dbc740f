//! `examples/distributed/compose.yaml`: every option and variable in it is one of the host, and each role's configuration is accepted.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use compozy_tests::host::{command, finish, run};
use compozy_tests::project::{Sandbox, checkout};
use serde_json::Value;

const FOLDER: &str = "examples/distributed";
const ROLES: [&str; 3] = ["api", "tool-worker", "workflow-worker"];

/// A container that runs the host.
struct Container {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Container {
    fn of(name: &str, service: &Value) -> Result<Option<Self>> {
        let words = service["command"].as_array().with_context(|| format!("`{name}` has a command as a list"))?;
        let words = words.iter().map(|word| Ok(word.as_str().context("a word")?.to_owned()));
        let mut words = words.collect::<Result<Vec<String>>>()?.into_iter();
        if words.next().as_deref() != Some("compozy-host") {
            return Ok(None);
        }
        let environment = service["environment"].as_object().with_context(|| format!("`{name}` has an environment"))?;
        let environment =
            environment.iter().map(|(name, value)| Ok((name.clone(), value.as_str().context("a text")?.to_owned())));
        Ok(Some(Self {
            name: name.to_owned(),
            arguments: words.collect(),
            environment: environment.collect::<Result<_>>()?,
        }))
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap_or(word))
    }

    /// The word behind an option.
    fn option(&self, option: &str) -> Result<&str> {
        let at = self.arguments.iter().position(|word| word == option);
        let value = at.and_then(|at| self.arguments.get(at + 1)).map(String::as_str);
        value.with_context(|| format!("`{}` has {option}", self.name))
    }
}

fn document() -> Result<Value> {
    let path = checkout().join(FOLDER).join("compose.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

fn containers() -> Result<Vec<Container>> {
    let document = document()?;
    let services = document["services"].as_object().context("services")?;
    let mut found = Vec::new();
    for (name, service) in services {
        found.extend(Container::of(name, service)?);
    }
    Ok(found)
}

/// What stands between backticks behind this word in the reference.
fn named(reference: &str, word: &str) -> BTreeSet<String> {
    let lines = reference.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(": `")?.split('`').next());
    lines.map(|name| name.split('=').next().unwrap_or(name).to_owned()).collect()
}

#[test]
fn every_option_and_variable_of_the_compose_file_exists() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let help = run(sandbox.root(), &["serve", "--help"])?.stdout;
    let options: BTreeSet<&str> =
        help.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).filter(|word| word.starts_with("--")).collect();
    let reference = run(sandbox.root(), &["config", "reference"])?.stdout;
    let variables = named(&reference, "- Environment");
    ensure!(variables.contains("COMPOZY_MODE"), "the reference names variables: {variables:?}");
    let containers = containers()?;
    for container in &containers {
        for option in container.options() {
            assert!(options.contains(option), "`{}` has `{option}`, which is none of {options:?}", container.name);
        }
        for (variable, _) in &container.environment {
            assert!(variables.contains(variable), "`{}` has `{variable}`, which no key has", container.name);
        }
    }
    // Also where they are only spoken of.
    let readme = fs::read_to_string(checkout().join(FOLDER).join("README.md"))?;
    let spoken = readme.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    for variable in spoken.filter(|word| word.starts_with("COMPOZY_")) {
        assert!(variables.contains(variable), "the README speaks of `{variable}`, which no key has");
    }
    Ok(())
}

#[test]
fn the_compose_file_has_each_role_once_with_a_configuration_that_is_accepted() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let weather = checkout().join("examples/weather");
    let weather = weather.to_str().context("a path of UTF-8")?;
    let mut roles = Vec::new();
    for container in containers()? {
        let role = container.option("--role")?.to_owned();
        assert_eq!(container.name, role, "a service is called as its role");
        assert_eq!(container.option("--project")?, "/project");
        let mut validate = command(sandbox.root(), &["--project", weather, "config", "validate"]);
        validate.envs(container.environment.iter().map(|(name, value)| (name, value))).env("COMPOZY_ROLES", &role);
        let outcome = finish(validate)?;
        assert_eq!(outcome.code, Some(0), "{role}: {outcome:?}");
        assert!(outcome.stderr.contains("0 errors, 0 warnings"), "{role}: {outcome:?}");
        roles.push(role);
    }
    roles.sort();
    assert_eq!(roles, ROLES);
    Ok(())
}

#[test]
fn the_services_of_the_compose_file_keep_what_they_are_given() -> Result<()> {
    let document = document()?;
    let words = |service: &str| {
        let words = document["services"][service]["command"].as_array().cloned().unwrap_or_default();
        words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    };
    for (service, setting) in [
        ("redis", "--appendonly yes"),
        ("redis", "--maxmemory-policy noeviction"),
        ("temporal", "--db-filename /data/"),
    ] {
        assert!(words(service).contains(setting), "`{service}` has no `{setting}`: {}", words(service));
        let volumes = document["services"][service]["volumes"].to_string();
        assert!(volumes.contains(&format!("{service}:/data")), "{service}: {volumes}");
    }
    Ok(())
}
