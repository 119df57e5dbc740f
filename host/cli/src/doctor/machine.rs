//! The data folder, its disk, and what the system allows.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::Check;

const MIB: u64 = 1024 * 1024;
/// With less, the journal can soon write nothing more.
const FREE_BYTES_MIN: u64 = 64 * MIB;
/// With less, somebody should look.
const FREE_BYTES_GOOD: u64 = 1024 * MIB;
/// How long the disk is measured.
const MEASURE: Duration = Duration::from_millis(500);
/// What is written before each fsync, in bytes: about what one event takes.
const WRITE_BYTES: usize = 4096;
/// With fewer, one commit takes longer than 20 ms.
const FSYNCS_GOOD: u64 = 50;
/// With fewer, a host cannot take the connections that it is made for.
const FILES_GOOD: u64 = 4096;
/// With fewer, it can hardly work.
const FILES_MIN: u64 = 256;

/// Looks at the machine.
pub(super) fn check(data_dir: &Path) -> Vec<Check> {
    let mut checks = folder(data_dir);
    checks.push(open_files(getrlimit(Resource::Nofile).current));
    checks
}

fn folder(data_dir: &Path) -> Vec<Check> {
    const NAME: &str = "data folder";
    let shown = data_dir.display();
    // A look makes no folder: the nearest one that is there stands for it.
    let existing = nearest_folder(data_dir);
    let made = if existing == data_dir { "can be written" } else { "can be made" };
    let rate = match fsyncs(&existing) {
        Ok(rate) => rate,
        Err(error) => {
            let advice = format!(
                "choose another one with `data_dir` or --data-dir, or let this user write to `{}`",
                existing.display()
            );
            return vec![Check::problem(NAME, format!("`{shown}` cannot be written: {error}"), advice)];
        }
    };
    let mut checks = vec![Check::ok(NAME, format!("`{shown}` {made}")), disk_speed(rate)];
    match rustix::fs::statvfs(&existing) {
        Ok(stat) => checks.push(free_space(stat.f_bavail.saturating_mul(stat.f_frsize))),
        Err(error) => checks.push(Check::warning("free space", format!("unknown: {error}"), "look at it with `df`")),
    }
    checks
}

fn nearest_folder(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Writes and syncs for a while; how often in a second.
fn fsyncs(folder: &Path) -> io::Result<u64> {
    let path = folder.join(format!(".compozy-doctor-{}", std::process::id()));
    let measured = measure(&path);
    let removed = if path.exists() { std::fs::remove_file(&path) } else { Ok(()) };
    let rate = measured?;
    removed.map(|()| rate)
}

fn measure(path: &Path) -> io::Result<u64> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let begun = Instant::now();
    let mut times = 0_u64;
    while begun.elapsed() < MEASURE {
        file.write_all(&[0; WRITE_BYTES])?;
        file.sync_data()?;
        times += 1;
    }
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    Ok(times.saturating_mul(1_000) / ms)
}

fn disk_speed(rate: u64) -> Check {
    let detail = format!("{rate} fsyncs/s; every commit of the journal waits for one, many steps share it");
    if rate >= FSYNCS_GOOD {
        return Check::ok("disk", detail);
    }
    Check::warning("disk", detail, "put the data folder on a faster disk: steps of workflows will be slow")
}

fn free_space(bytes: u64) -> Check {
    let detail = format!("{} MiB", bytes / MIB);
    let advice = "make room, or move the data folder; `retention` lets ended executions go";
    if bytes < FREE_BYTES_MIN {
        Check::problem("free space", detail, advice)
    } else if bytes < FREE_BYTES_GOOD {
        Check::warning("free space", detail, advice)
    } else {
        Check::ok("free space", detail)
    }
}

fn open_files(limit: Option<u64>) -> Check {
    let Some(limit) = limit else { return Check::ok("open files", "no limit") };
    let detail = format!("{limit} at most");
    let advice = format!("raise it to {FILES_GOOD}: `ulimit -n {FILES_GOOD}`, or `LimitNOFILE` of the service");
    if limit < FILES_MIN {
        Check::problem("open files", detail, advice)
    } else if limit < FILES_GOOD {
        Check::warning("open files", detail, advice)
    } else {
        Check::ok("open files", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn numbers_are_judged_and_advice_is_given() {
        let cases = [
            (free_space(FREE_BYTES_MIN - 1), State::Problem),
            (free_space(FREE_BYTES_MIN), State::Warning),
            (free_space(FREE_BYTES_GOOD), State::Ok),
            (open_files(Some(FILES_MIN - 1)), State::Problem),
            (open_files(Some(1024)), State::Warning),
            (open_files(None), State::Ok),
            (disk_speed(FSYNCS_GOOD - 1), State::Warning),
            (disk_speed(FSYNCS_GOOD), State::Ok),
        ];
        for (check, state) in cases {
            assert_eq!(check.state, state, "{check:?}");
            assert_eq!(check.advice.is_empty(), state == State::Ok, "{check:?}");
        }
    }

    #[test]
    fn a_look_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let checks = check(&folder.path().join("a/b"));
        assert!(checks[0].detail.contains("can be made"), "{checks:?}");
        assert!(checks.iter().any(|check| check.detail.contains("fsyncs/s")), "{checks:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "x").expect("written");
        let checks = check(&file.join("data"));
        assert_eq!(checks[0].state, State::Problem, "a file is no folder: {checks:?}");
    }
}
