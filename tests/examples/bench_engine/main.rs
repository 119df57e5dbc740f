//! What a run costs: `cargo xtask bench engine [--json] [--seconds N]`.
//!
//! A real host process is measured over HTTP, with its client here beside it, by turns with the least that such work could
//! cost on this disk: the same rows by plain SQL with the same group commit. Then the same engine without HTTP. How often
//! the disk syncs in this minute is measured before and after, because no figure means anything without it.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod backlog;
mod client;
mod floor;
mod host;
mod local;
mod report;
mod setting;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::report::Report;
use crate::setting::Setting;

/// Runs in flight in the measures of throughput.
const IN_FLIGHT: usize = 64;
/// Tasks of the measured workflow.
const STEPS: f64 = 3.0;

/// What to measure with.
struct Options {
    json: bool,
    /// Only measures of this part: `http`, `local`, `backlog` or `start`.
    only: Option<String>,
    /// How long each load lasts.
    load: Duration,
    /// The host's program.
    host: PathBuf,
    /// On the disk that is to be measured.
    scratch: PathBuf,
}

fn options() -> Result<Options> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let here = std::env::current_exe()?;
    let host = here.ancestors().nth(2).context("the program lies in target/<profile>/examples")?.join("compozy-host");
    let mut options =
        Options { json: false, only: None, load: Duration::from_secs(30), host, scratch: root.join("target/bench") };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--json" => options.json = true,
            "--only" => options.only = Some(value()?),
            "--seconds" => options.load = Duration::from_secs(value()?.parse().context("--seconds needs a number")?),
            "--host" => options.host = value()?.into(),
            "--scratch" => options.scratch = value()?.into(),
            other => bail!(
                "unknown argument `{other}`; there are --json, --seconds N, --only PART, --host PATH and --scratch DIR"
            ),
        }
    }
    Ok(options)
}

fn main() -> Result<()> {
    let options = options()?;
    std::fs::create_dir_all(&options.scratch)?;
    let scratch = tempfile::tempdir_in(&options.scratch)?;
    // The client has one thread: it must not take more of the machine than it needs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new(options.json);
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let before = floor::fsyncs_per_second(scratch.path())?;
    report.info("disk.fsyncs_before", before, "1/s");
    let setting = Setting::new(scratch.path())?;
    if wanted("start") {
        runtime.block_on(host::starts(&setting, &options.host, &mut report))?;
    }
    if wanted("http") {
        host::loads(&runtime, &setting, &options.host, options.load, &mut report)?;
    }
    if wanted("local") {
        local::loads(&setting, options.load, &mut report)?;
        local::idle(&setting, &mut report)?;
    }
    if wanted("backlog") {
        backlog::measure(&setting, &mut report)?;
    }
    let after = floor::fsyncs_per_second(scratch.path())?;
    report.info("disk.fsyncs_after", after, "1/s");
    Ok(())
}
