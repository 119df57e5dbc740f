//! What a process holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::common::{PATIENCE, eventually};

/// What a process has that can be left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) threads: BTreeMap<String, usize>,
    pub(crate) files: Vec<String>,
    pub(crate) children: String,
    pub(crate) tasks: usize,
}

fn threads() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        // One that ends meanwhile has no name any more.
        if let Ok(name) = std::fs::read_to_string(task.path().join("comm")) {
            *names.entry(name.trim().to_owned()).or_insert(0) += 1;
        }
    }
    names
}

fn files() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let mut names: Vec<String> = open
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| !target.starts_with("/proc/"))
        // Numbers of sockets and pipes differ.
        .map(|target| target.split(':').next().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn held() -> Held {
    let children = format!("/proc/self/task/{}/children", std::process::id());
    Held {
        threads: threads(),
        files: files(),
        children: std::fs::read_to_string(children).unwrap_or_default(),
        tasks: Handle::current().metrics().num_alive_tasks(),
    }
}

/// Files of the data folder that are there for a moment only.
pub(crate) fn passing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let marks = ["probe-", ".part-", "unfinished-", ".tmp", "-wal", "-shm", "-journal"];
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
            if marks.iter().any(|mark| name.contains(mark)) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// A runtime whose helping threads end soon after their work, so that they can be told from what a host left.
pub(crate) fn alone<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_keep_alive(Duration::from_millis(20)).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(PATIENCE);
    done
}

pub(crate) async fn eventually_as(before: &Held) {
    let mut last = None;
    let same = eventually("everything is given back", async || {
        let now = held();
        let same = now == *before;
        last = Some(now);
        same.then_some(())
    });
    let same = tokio::time::timeout(Duration::from_secs(20), same).await;
    assert!(same.is_ok(), "left behind:\n{:#?}\nbefore:\n{before:#?}", last.expect("looked"));
}
