//! `validate`: every problem of a project or a workflow file, in one go.

use std::path::Path;

use compozy_embed::{Project, catalog};
use compozy_plan::{Diagnostic, Severity};
use compozy_runtime::{Runtime, RuntimeOptions};
use serde_json::json;

use crate::args::{HostArgs, ValidateArgs};
use crate::exit::{Exit, Fatal};
use crate::output::{result, say};
use crate::threads;

/// Prints what is wrong. The plugins are loaded, so that tools, actions and grants are checked too; nothing is written to
/// the data folder.
pub(crate) fn validate(host: &HostArgs, args: &ValidateArgs) -> Result<Exit, Fatal> {
    let project = Project::read(&args.path);
    let (settings, mut found) = project.settings(&host.loaded);
    let scratch = Scratch::new()?;
    let options = RuntimeOptions {
        // What a host has compiled already is used; without a data folder all is compiled here and thrown away.
        code_cache_dir: Some(host.data_dir.join("code")).filter(|folder| folder.is_dir()),
        ..settings.runtime_options(&host.plugins, &scratch.0)
    };
    let runtime = threads::run(async { Ok(Runtime::open(options).await) })?;
    let plugin_problems = match &runtime {
        Ok(_) => Vec::new(),
        Err(error) => error.0.clone(),
    };
    let catalog = runtime.as_deref().ok().map(catalog);
    let (plans, problems) = project.compile(catalog.as_ref());
    found.extend(problems);

    let errors = plugin_problems.len() + found.iter().filter(|problem| problem.severity == Severity::Error).count();
    let workflows: Vec<&str> = plans.iter().map(|plan| plan.workflow.as_str()).collect();
    if args.json {
        let plugins: Vec<_> = plugin_problems
            .iter()
            .map(|problem| json!({ "code": problem.code, "place": problem.place, "message": problem.message }))
            .collect();
        let document =
            json!({ "valid": errors == 0, "workflows": workflows, "diagnostics": found, "plugin_problems": plugins });
        result(&format!("{document:#}"));
    } else {
        for problem in &plugin_problems {
            result(&problem.to_string());
        }
        for problem in &found {
            result(&problem.to_string());
        }
        say(&summary(&args.path, errors, &found, &workflows));
    }
    Ok(if errors == 0 { Exit::Ok } else { Exit::Failed })
}

fn summary(path: &Path, errors: usize, found: &[Diagnostic], workflows: &[&str]) -> String {
    let warnings = found.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let counts = format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"));
    let path = path.display();
    if errors > 0 {
        return format!("{path} is not valid: {counts}");
    }
    format!("{path} is valid: {} ({}), {counts}", plural(workflows.len(), "workflow"), workflows.join(", "))
}

/// A folder for the databases that plugins open when they are loaded; gone at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self, Fatal> {
        let folder = std::env::temp_dir().join(format!("compozy-validate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| {
            let problem = format!("the temporary folder `{}` cannot be made: {error}; set TMPDIR", folder.display());
            Fatal::new(Exit::StorageUnavailable, problem)
        })?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is small and lies in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
