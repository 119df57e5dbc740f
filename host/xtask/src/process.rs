//! Starting cargo and other programs.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Variables that `cargo run` sets for xtask itself. Passed on, they would look like changes to build scripts that read them.
const OWN_VARIABLES: [&str; 6] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
];

/// A program, without the variables that are about xtask.
pub(crate) fn program(name: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder);
    for (key, _) in env::vars_os() {
        let own = key.to_str().is_some_and(|key| OWN_VARIABLES.contains(&key) || key.starts_with("CARGO_PKG_"));
        if own {
            command.env_remove(key);
        }
    }
    command
}

/// The cargo that runs xtask.
pub(crate) fn cargo(folder: &Path) -> Command {
    program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), folder)
}

/// The command as a person would type it, without folder and variables.
pub(crate) fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(name, |line, arg| line + " " + &arg.to_string_lossy())
}

/// Runs it with the terminal as its output. Its standard output goes to standard error: ours is for results.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs it with the terminal as its output; its result is ours.
pub(crate) fn hand_over(command: &mut Command) -> Result<ExitCode> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{}`", line(command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs it and returns its standard output; on failure the error carries what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", line(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` did not answer in UTF-8", line(command)))
}

/// One file that cargo built, or found up to date.
#[derive(Debug, Deserialize)]
pub(crate) struct Artifact {
    /// The `Cargo.toml` of its package.
    pub(crate) manifest_path: PathBuf,
    /// Everything that was written for one target.
    pub(crate) filenames: Vec<PathBuf>,
    /// Set for programs.
    pub(crate) executable: Option<PathBuf>,
}

/// Runs a cargo build command, shows its progress, and returns what it made.
pub(crate) fn artifacts(command: &mut Command) -> Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line(command)))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut artifacts = Vec::new();
    for text in BufReader::new(stdout).lines() {
        artifacts.extend(artifact(&text.context("cannot read what cargo reports")?)?);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(artifacts)
}

/// One line of cargo's report, when it is about an artifact.
fn artifact(text: &str) -> Result<Option<Artifact>> {
    #[derive(Deserialize)]
    struct Reason {
        reason: String,
    }
    let Ok(Reason { reason }) = serde_json::from_str(text) else { return Ok(None) };
    if reason != "compiler-artifact" {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).context("cargo reports an artifact in a form that xtask does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_told_from_other_reports() {
        let text = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/p/Cargo.toml","target":{"kind":["cdylib"]},
            "filenames":["/t/a.wasm"],"executable":null,"fresh":true}"#;
        let found = artifact(text).expect("parses").expect("an artifact");
        assert_eq!(found.filenames, [PathBuf::from("/t/a.wasm")]);
        assert!(artifact(r#"{"reason":"build-finished","success":true}"#).expect("parses").is_none());
        assert!(artifact("not json").expect("ignored").is_none());
        assert!(artifact(r#"{"reason":"compiler-artifact"}"#).is_err());
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let mut command = program("sh", Path::new("/"));
        command.args(["-c", "echo broken >&2; exit 3"]);
        let error = output(&mut command).expect_err("fails").to_string();
        assert!(error.contains("sh -c") && error.contains("broken") && error.contains('3'), "{error}");
    }
}
