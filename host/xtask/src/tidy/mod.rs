//! `cargo xtask tidy`: the rules of this repository that a program can check.

mod dependencies;
mod duplicates;
mod edges;
mod features;
mod files;
mod licences;
mod lints;
mod plugins;
mod policy;
mod sizes;
mod spdx;
mod words;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::guests::{self, Which};
use crate::setup;
use crate::workspace::Workspace;

pub(crate) use lints::fix;

/// One rule.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    check: fn(&Workspace) -> Result<Findings>,
}

/// What a check has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// One sentence each; any makes the check fail.
    pub(crate) problems: Vec<String>,
    /// Worth knowing, and no failure.
    pub(crate) notes: Vec<String>,
}

/// Checks that read files.
pub(crate) const QUICK: [Check; 8] = [
    Check { name: "format", check: lints::format },
    Check { name: "dependency directions", check: edges::check },
    Check { name: "plugin folders", check: plugins::check },
    Check { name: "file sizes", check: sizes::check },
    Check { name: "words", check: words::check },
    Check { name: "licences", check: licences::check },
    Check { name: "duplicates", check: duplicates::check },
    Check { name: "one build", check: features::check },
];

/// Checks that compile.
pub(crate) const COMPILING: [Check; 2] =
    [Check { name: "purity", check: lints::purity }, Check { name: "lints", check: lints::clippy }];

impl Check {
    /// Runs it and says how it went; true when it found no problem.
    pub(crate) fn run(&self, workspace: &Workspace) -> bool {
        let start = Instant::now();
        let findings = (self.check)(workspace)
            .unwrap_or_else(|error| Findings { problems: vec![format!("{error:#}")], notes: Vec::new() });
        let (name, took_ms) = (self.name, start.elapsed().as_millis());
        let ok = findings.problems.is_empty();
        if ok {
            println!("tidy: {name} ok ({took_ms} ms)");
        } else {
            println!("tidy: {name} FAILED ({took_ms} ms)");
        }
        findings.problems.iter().for_each(|problem| println!("  {problem}"));
        findings.notes.iter().for_each(|note| println!("  note: {note}"));
        ok
    }
}

/// Runs all checks, or the quick ones, whatever some find.
pub(crate) fn run(workspace: &Workspace, quick: bool) -> ExitCode {
    let (mut checks, mut failed) = (QUICK.len(), QUICK.iter().filter(|check| !check.run(workspace)).count());
    if !quick {
        // The host embeds plugins, so linting it needs them built.
        let built = setup::guest_toolchain(workspace)
            .and_then(|toolchain| guests::build(workspace, &toolchain, Which::Plugins));
        if let Err(error) = built {
            println!("tidy: plugins cannot be built: {error:#}");
            failed += 1;
        }
        checks += COMPILING.len();
        failed += COMPILING.iter().filter(|check| !check.run(workspace)).count();
    }
    if failed == 0 {
        println!("tidy: all is well");
        ExitCode::SUCCESS
    } else {
        println!("tidy: {failed} of {checks} checks failed");
        ExitCode::FAILURE
    }
}
