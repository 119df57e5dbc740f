//! `config`: what holds, what is wrong, and what there is.

use compozy_embed::Project;
use compozy_plan::{Diagnostic, Severity, parse_project};
use serde_json::json;

use crate::args::{ConfigCommand, HostArgs};
use crate::exit::{Exit, Fatal};
use crate::output::{result, say};

/// Prints what was asked for.
#[expect(clippy::unnecessary_wraps, reason = "all commands have one signature")]
pub(crate) fn config(host: &HostArgs, command: ConfigCommand) -> Result<Exit, Fatal> {
    match command {
        ConfigCommand::Schema => result(&compozy_config::schema()),
        ConfigCommand::Reference => result(&compozy_config::reference()),
        ConfigCommand::Show { json } => return Ok(show(host, json)),
        ConfigCommand::Validate { json } => return Ok(validate(host, json)),
    }
    Ok(Exit::Ok)
}

/// Also what is wrong is shown as it stands: that is when one looks.
fn show(host: &HostArgs, as_json: bool) -> Exit {
    let loaded = &host.loaded;
    if as_json {
        let document = json!({ "keys": loaded.settings.to_json(), "problems": loaded.problems });
        result(&format!("{document:#}"));
    } else {
        result(&loaded.settings.to_text());
        for problem in &loaded.problems {
            say(&problem.to_string());
        }
    }
    if loaded.has_errors() { Exit::Failed } else { Exit::Ok }
}

fn validate(host: &HostArgs, as_json: bool) -> Exit {
    let problems = problems(host);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if as_json {
        result(&format!("{:#}", json!({ "valid": errors == 0, "problems": problems })));
    } else {
        for problem in &problems {
            result(&problem.to_string());
        }
        let warnings = problems.len() - errors;
        let valid = if errors == 0 { "valid" } else { "not valid" };
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        say(&format!(
            "the configuration is {valid}: {errors} error{}, {warnings} warning{}",
            plural(errors),
            plural(warnings)
        ));
    }
    if errors == 0 { Exit::Ok } else { Exit::Failed }
}

/// All that is wrong with the configuration and the project file; not with workflows.
pub(crate) fn problems(host: &HostArgs) -> Vec<Diagnostic> {
    let project = Project::read(&host.project);
    let mut problems = host.file.as_ref().map(|file| parse_project(file).diagnostics).unwrap_or_default();
    let found = project.settings(&host.loaded).1.into_iter().chain(host.loaded.problems.clone());
    for problem in found {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}
