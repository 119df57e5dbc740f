//! A real host process, measured from outside.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::client::{Connection, get, load, start_and_wait};
use crate::floor::Floor;
use crate::report::{Load, Report, median, percentile_ms};
use crate::setting::Setting;
use crate::{IN_FLIGHT, STEPS};

/// Starts that are measured.
const STARTS: usize = 15;
/// Runs before a measure begins.
const WARM_UP: Duration = Duration::from_secs(1);
/// A load and its floor take turns so often.
const ROUNDS: u32 = 6;
/// How long a floor is measured in each round: it varies little.
const FLOOR: Duration = Duration::from_secs(2);
/// Kernel ticks per second; the same on every Linux that we know.
const TICKS_PER_S: f64 = 100.0;

/// Killed when dropped.
struct Host {
    child: Child,
    address: String,
    ready: Duration,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    fn start(setting: &Setting, program: &Path) -> Result<Self> {
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--log", "warn", "--project"])
            .arg(&setting.project)
            .arg("--data-dir")
            .arg(setting.folder("host-data")?)
            .arg("--plugins")
            .arg(&setting.plugin)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let ready = begun.elapsed();
        let address =
            line.trim().strip_prefix("listening http://").context("the host says where it listens")?.to_owned();
        Ok(Self { child, address, ready })
    }

    /// A line of `/proc/PID/status`, in MiB.
    fn memory_mb(&self, name: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
    }

    /// Processor time so far, in seconds.
    fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(')').context("no name")?.1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS_PER_S)
    }

    async fn commits(&self) -> Result<f64> {
        let mut connection = Connection::open(&self.address).await?;
        let body = connection.send(&get(&self.address, "/api/v0/health")).await?;
        let health: Value = serde_json::from_slice(body)?;
        health["engine"]["commits"].as_f64().context("the engine counts its commits")
    }

    /// Loads the host and says what that came to, and the processor time per run.
    async fn load(&self, in_flight: usize, duration: Duration) -> Result<(Load, f64)> {
        load(&self.address, in_flight, WARM_UP.min(duration)).await?;
        let (commits, cpu) = (self.commits().await?, self.cpu_s()?);
        let (latencies, elapsed) = load(&self.address, in_flight, duration).await?;
        let cpu = self.cpu_s()? - cpu;
        let result = Load::of(latencies, elapsed, self.commits().await? - commits);
        Ok((result, cpu))
    }
}

/// How long the host takes from its start until it serves, and what it then holds.
pub(crate) async fn starts(setting: &Setting, program: &Path, report: &mut Report) -> Result<()> {
    // The first compiles the plugin.
    drop(Host::start(setting, program)?);
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let host = Host::start(setting, program)?;
        times.push(host.ready);
        // It serves: one whole run, so that nothing is counted as started that cannot work yet.
        Connection::open(&host.address).await?.send(&start_and_wait(&host.address)).await?;
        memory.push(host.memory_mb("VmRSS")?);
    }
    report.against("engine.start_ms", percentile_ms(&mut times, 0.5), "ms", 100.0, Some(1.0));
    memory.sort_unstable_by(f64::total_cmp);
    report.against("engine.rss_mb", memory[STARTS / 2], "MiB", 60.0, Some(1.0));
    Ok(())
}

/// One run at a time, then many, each beside the least that its rows cost: in rounds, because a machine is not equally quick
/// for minutes.
pub(crate) fn loads(
    runtime: &Runtime,
    setting: &Setting,
    program: &Path,
    duration: Duration,
    report: &mut Report,
) -> Result<()> {
    let host = Host::start(setting, program)?;
    let round = duration / ROUNDS;
    alone(runtime, setting, &host, round, report)?;
    many(runtime, setting, &host, round, report)?;
    report.info("engine.c64.peak_rss_mb", host.memory_mb("VmHWM")?, "MiB");
    Ok(())
}

fn alone(runtime: &Runtime, setting: &Setting, host: &Host, round: Duration, report: &mut Report) -> Result<()> {
    let mut floor = Floor::open(&setting.folder("floor-1")?)?;
    let (mut loads, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        loads.push(runtime.block_on(host.load(1, round))?.0);
        commits.push(floor.measure(1.0, round.min(FLOOR))?.commit_p50_ms);
    }
    let run_ms = median(loads.iter().map(|load| load.p50_ms).collect());
    let commit_ms = median(commits);
    let one = Load::all(loads);
    one.tell("engine.c1", report);
    report.info("engine.c1.p99_ms", one.p99_ms, "ms");
    report.info("engine.c1.runs_per_s", one.runs_per_s(), "1/s");
    report.info("floor.commit_ms", commit_ms, "ms");
    let target_ms = 5.0f64.mul_add(commit_ms, 0.5);
    report.against("engine.c1.run_ms", run_ms, "ms", target_ms, Some(1.0));
    report.against("engine.c1.step_ms", run_ms / STEPS, "ms", commit_ms, None);
    let (commits, target) = (run_ms / STEPS / commit_ms, target_ms / STEPS / commit_ms);
    report.against("engine.c1.step_per_fsync", commits, "commits", target, Some(1.0));
    Ok(())
}

fn many(runtime: &Runtime, setting: &Setting, host: &Host, round: Duration, report: &mut Report) -> Result<()> {
    let mut floor = Floor::open(&setting.folder("floor-64")?)?;
    let (mut loads, mut floors, mut cpu) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..ROUNDS {
        let (load, cpu_of_load) = runtime.block_on(host.load(IN_FLIGHT, round))?;
        // The floor commits as many steps at once as the engine did.
        floors.push(floor.measure((load.steps / load.commits).max(1.0), round.min(FLOOR))?.steps_per_s);
        loads.push(load);
        cpu += cpu_of_load;
    }
    let steps_per_s = median(loads.iter().map(Load::steps_per_s).collect());
    let many = Load::all(loads);
    many.tell("engine.c64", report);
    report.at_least("engine.c64.runs_per_s", many.runs_per_s(), "1/s", 4_000.0, 1.0);
    report.against("engine.c64.p99_ms", many.p99_ms, "ms", 30.0, Some(1.0));
    report.info("engine.c64.cpu_us_per_run", cpu * 1e6 / many.runs, "us");
    report.info("engine.c64.cpus", cpu / many.seconds, "processors");
    let least = median(floors);
    report.info("floor.steps_per_s", least, "1/s");
    let full = floor.measure(IN_FLIGHT as f64, round.min(FLOOR))?;
    report.info("floor.full_groups.steps_per_s", full.steps_per_s, "1/s");
    report.at_least("engine.c64.floor_ratio", steps_per_s, "1/s", least, 0.5);
    Ok(())
}
