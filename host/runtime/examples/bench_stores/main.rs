//! What a store costs behind a plugin, against native code that issues the same statements or commands, in one run:
//! `cargo xtask bench stores [--json]`.
//!
//! Each measure is taken with 1 and with 64 callers, both sides in turns of a tenth of a second; ratios are medians of the turns' own.
//! With one caller `value` is the median time of one operation; with 64 it is operations per second.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]

#[path = "../bench_plugin/disk.rs"]
mod disk;
mod growth;
mod load;
mod native_redis;
mod native_sqlite;
mod plugin;
mod work;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compozy_runtime::{Builtin, PluginPolicy, RedisSettings, Runtime, RuntimeOptions, StoreSelection};

use load::Pair;
use work::Side;

/// Callers at once.
const CALLERS: [usize; 2] = [1, 64];
/// With many callers, this share of the native throughput is good enough.
const THROUGHPUT_MIN: f64 = 0.9;

struct Options {
    json: bool,
    /// Only measures whose name begins so.
    only: String,
    /// The folder that holds `plugins/`, with their components built.
    root: PathBuf,
    /// For databases; on the disk that is to be measured.
    scratch: PathBuf,
    /// The Redis server; without one, its measures are left out.
    redis_url: Option<String>,
    /// Instead of measuring: one side alone for so many seconds, for a profiler to look at.
    profile: Option<(bool, u64)>,
}

fn options() -> Result<Options, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let scratch = root.join("target/bench");
    let mut options = Options { json: false, only: String::new(), scratch, root, redis_url: None, profile: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = |what: &str| arguments.next().ok_or(format!("{argument} needs {what}"));
        match argument.as_str() {
            "--json" => options.json = true,
            "--scratch" => options.scratch = value("a folder")?.into(),
            "--only" => options.only = value("the begin of a measure's name")?,
            "--redis-url" => options.redis_url = Some(value("an address")?),
            "--profile" => {
                let (side, seconds) = (value("`ours` or `native`, and seconds")?, value("seconds behind the side")?);
                let seconds = seconds.parse().map_err(|_| format!("`{seconds}` is no number of seconds"))?;
                options.profile = Some((side == "ours", seconds));
            }
            other => {
                return Err(format!(
                    "unknown argument `{other}`; there are --json, --only PREFIX, --scratch DIR, --redis-url URL \
                     and --profile ours|native SECONDS"
                ));
            }
        }
    }
    Ok(options)
}

/// A runtime whose stores are all kept by one plugin.
async fn open(options: &Options, folder: &Path, plugin: &str) -> Result<Arc<Runtime>, String> {
    let home = options.root.join("plugins").join(plugin);
    let read = |name: String| std::fs::read(home.join(&name)).map_err(|error| format!("{name}: {error}"));
    let manifest = String::from_utf8(read("plugin.toml".to_owned())?).map_err(|error| error.to_string())?;
    let component = read(format!("{plugin}.wasm"))?;
    let mut policy = PluginPolicy::default();
    (policy.grants.sql, policy.grants.redis) = (true, true);
    let redis =
        options.redis_url.as_deref().map(RedisSettings::parse).transpose().map_err(|error| error.to_string())?;
    let runtime = RuntimeOptions {
        builtins: vec![Builtin { manifest: Cow::Owned(manifest), component: Cow::Owned(component) }],
        default_policy: policy,
        stores: StoreSelection::all(plugin),
        redis,
        ..RuntimeOptions::new(folder)
    };
    Runtime::open(runtime).await.map_err(|error| error.to_string())
}

struct Report<'a> {
    options: &'a Options,
}

impl Report<'_> {
    /// Whether a measure of this name is wanted.
    fn wants(&self, name: &str) -> bool {
        name.starts_with(&self.options.only)
    }

    fn pair(&self, name: &str, callers: usize, target: f64, pair: &Pair) {
        let Pair { ours, native, throughput_ratio } = pair;
        let (value, baseline, unit, ratio, met) = if callers == 1 {
            let ratio = 1.0 / throughput_ratio;
            (ours.p50_us, native.p50_us, "us", ratio, ratio <= target)
        } else {
            let met = *throughput_ratio >= THROUGHPUT_MIN;
            (ours.per_second, native.per_second, "op/s", *throughput_ratio, met)
        };
        if self.options.json {
            let line = serde_json::json!({
                "measure": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio,
                "p50_us": ours.p50_us, "p99_us": ours.p99_us, "per_second": ours.per_second,
            });
            return println!("{line}");
        }
        let goal = if callers == 1 { format!("<= {target:.2}") } else { format!(">= {THROUGHPUT_MIN:.2}") };
        println!(
            "{name:<36} p50 {:>9.1} us  p99 {:>9.1} us  {:>9.0}/s   native p50 {:>9.1} us  {:>9.0}/s   ratio {ratio:>6.2}  {goal} {}",
            ours.p50_us,
            ours.p99_us,
            ours.per_second,
            native.p50_us,
            native.per_second,
            if met { "met" } else { "MISSED" },
        );
    }

    async fn backend(&self, name: &str, native: &Arc<dyn Side>, ours: &Arc<dyn Side>) -> Result<(), String> {
        for (work, what, targets) in work::ALL.map(|(work, what, targets)| (work, what, targets)) {
            for callers in CALLERS {
                let measure = format!("{name}.{work}.c{callers}");
                if let Some((own, seconds)) = self.options.profile.filter(|_| self.wants(&measure)) {
                    let (rate, cpu) = load::alone(if own { ours } else { native }, what, callers, seconds).await?;
                    println!("{measure:<36} {rate:>9.0}/s {cpu:>9.2} us of processor time each");
                } else if self.wants(&measure) {
                    let pair = load::pair(native, ours, what, callers).await;
                    let pair = pair.map_err(|error| format!("{measure}: {error}"))?;
                    let target = if name == "sqlite" { targets.sqlite } else { targets.redis };
                    self.pair(&measure, callers, target, &pair);
                }
            }
        }
        Ok(())
    }
}

async fn run(options: &Options, scratch: &Path) -> Result<(), String> {
    let report = Report { options };
    if report.wants("sqlite") || options.only.starts_with("sqlite") {
        let runtime = open(options, &scratch.join("ours"), "sqlite").await?;
        let ours: Arc<dyn Side> = Arc::new(plugin::Plugin::filled(runtime.stores()).await?);
        let native: Arc<dyn Side> = Arc::new(native_sqlite::Native::filled(&scratch.join("native"))?);
        report.backend("sqlite", &native, &ours).await?;
        growth::measure(&report, "sqlite", runtime.stores()).await?;
        runtime.stop();
    }
    if let Some(url) = &options.redis_url {
        let runtime = open(options, &scratch.join("redis"), "redis").await?;
        let ours: Arc<dyn Side> = Arc::new(plugin::Plugin::filled(runtime.stores()).await?);
        let native: Arc<dyn Side> = Arc::new(native_redis::Native::filled(url).await?);
        report.backend("redis", &native, &ours).await?;
        growth::measure(&report, "redis", runtime.stores()).await?;
        runtime.stop();
    }
    Ok(())
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
        runtime.block_on(run(&options, scratch.path()))?;
        let after = disk::fsyncs_per_second(scratch.path()).map_err(|error| error.to_string())?;
        eprintln!("disk: {before:.0} fsync/s before, {after:.0} after");
        Ok(())
    });
    if let Err(why) = result {
        eprintln!("bench: {why}");
        std::process::exit(1);
    }
}
