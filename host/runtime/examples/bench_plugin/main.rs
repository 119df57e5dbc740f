//! What a plugin costs, against the same work without the runtime, in one run: `cargo xtask bench plugin [--json]`.
//!
//! Each measure alternates short rounds of the baseline and of ours and takes medians, so that a machine whose speed drifts
//! changes both. `ratio` is the median of the rounds' own ratios.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

mod bare;
mod disk;
mod measures;
mod native;
mod sample;

use std::path::PathBuf;

use sample::Measure;

/// What to measure with.
struct Options {
    json: bool,
    /// Only the measure of this name, for example to profile it.
    only: Option<String>,
    /// The folder that holds `plugins/`, `tests/guests/` and `examples/`, with their components built.
    root: PathBuf,
    /// For databases and compiled code; on the disk that is to be measured.
    scratch: PathBuf,
}

fn options() -> Result<Options, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut options = Options { json: false, only: None, scratch: root.join("target/bench"), root };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--scratch" => options.scratch = arguments.next().ok_or("--scratch needs a folder")?.into(),
            "--only" => options.only = Some(arguments.next().ok_or("--only needs the name of a measure")?),
            other => {
                return Err(format!("unknown argument `{other}`; there are --json, --only MEASURE and --scratch DIR"));
            }
        }
    }
    Ok(options)
}

fn print(json: bool, measure: &Measure) {
    let Measure { name, value, unit, baseline, ratio, target } = measure;
    if json {
        let line = serde_json::json!({
            "measure": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio,
        });
        println!("{line}");
        return;
    }
    let verdict = match target {
        Some(target) if ratio <= target => format!("<= {target:.2}, met"),
        Some(target) => format!("<= {target:.2}, MISSED"),
        None => String::new(),
    };
    println!("{name:<14} {value:>10.2} {unit:<3} baseline {baseline:>10.2} {unit:<3} ratio {ratio:>6.3}  {verdict}");
}

fn main() {
    let result = options().and_then(|options| {
        std::fs::create_dir_all(&options.scratch).map_err(|error| format!("{}: {error}", options.scratch.display()))?;
        let scratch = tempfile::tempdir_in(&options.scratch).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let before = disk::fsyncs_per_second(scratch.path()).map_err(|error| error.to_string())?;
        let bench = measures::Bench {
            root: &options.root,
            scratch: scratch.path(),
            only: options.only.as_deref(),
            print: &|measure: &Measure| print(options.json, measure),
        };
        runtime.block_on(bench.all())?;
        let after = disk::fsyncs_per_second(scratch.path()).map_err(|error| error.to_string())?;
        eprintln!("disk: {before:.0} fsync/s before, {after:.0} after");
        Ok(())
    });
    if let Err(why) = result {
        eprintln!("bench: {why}");
        std::process::exit(1);
    }
}
