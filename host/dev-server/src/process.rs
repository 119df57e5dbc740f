//! A child process that never outlives its parent, and can be sent signals without hitting a stranger.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How a process ended.
pub type Ended = ExitStatus;

/// A running child. Dropping it kills it.
///
/// A thread keeps it: on Linux a child can ask to be killed when its parent dies, and the parent of that rule is the **thread** that
/// started it. So that thread must live as long as the child.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Set in the moment in which the process id is given back to the system.
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

impl Shared {
    fn ended(&self) -> MutexGuard<'_, Option<Ended>> {
        self.ended.lock().expect("nobody panics while holding this")
    }
}

impl Process {
    /// Starts a command.
    pub fn start(mut command: Command) -> io::Result<Self> {
        die_with_parent(&mut command);
        let shared = Arc::<Shared>::default();
        let (tell, told) = mpsc::channel();
        let kept = Arc::clone(&shared);
        std::thread::Builder::new().name("temporal-keeper".to_owned()).spawn(move || {
            match command.spawn() {
                Ok(child) => {
                    let pid = Pid::from_child(&child);
                    // The receiver waits for exactly this.
                    let _ = tell.send(Ok(pid));
                    keep(child, pid, &kept);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        let pid = told.recv().map_err(|_| io::Error::other("the thread that starts the process ended"))??;
        Ok(Self { pid, shared })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&self) -> Option<Ended> {
        *self.shared.ended()
    }

    /// Waits for its end, but not longer than this; `None` when it runs on.
    pub fn wait(&self, patience: Duration) -> Option<Ended> {
        let until = Instant::now() + patience;
        let mut ended = self.shared.ended();
        while ended.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            ended = self.shared.changed.wait_timeout(ended, left).expect("nobody panics while holding this").0;
        }
        *ended
    }

    /// SIGTERM: it shall end by itself.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        let mut ended = self.shared.ended();
        while ended.is_none() {
            ended = self.shared.changed.wait(ended).expect("nobody panics while holding this");
        }
    }

    /// SIGSTOP: it stays where it is, connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // While this is held and says that it runs, the process id is its own.
        let ended = self.shared.ended();
        if ended.is_none() {
            kill_process(self.pid, signal).expect("a child of ours takes signals");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the child's end, and tells it.
fn keep(mut child: Child, pid: Pid, shared: &Shared) {
    // NOWAIT: looked at, not taken away. The id stays the child's own until the lock below is held.
    while matches!(
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT),
        Err(rustix::io::Errno::INTR)
    ) {}
    let mut ended = shared.ended();
    let status = child.wait();
    *ended = Some(status.unwrap_or_else(|_| ExitStatus::from_raw(0)));
    shared.changed.notify_all();
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "only between fork and exec can a child ask to die with its parent")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    use rustix::process::{getpid, getppid, set_parent_process_death_signal};

    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the child could ask.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: the closure makes two system calls and neither allocates nor locks.
    unsafe { command.pre_exec(ask) };
}

/// Elsewhere there is no such wish; a child that is left behind keeps the lock of its folder, and says so at the next start.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).unwrap()
    }

    #[test]
    fn the_end_is_told_with_its_code_and_signals_after_it_reach_nobody() {
        let process = shell("exit 3");
        assert_eq!(process.wait(Duration::from_secs(30)).unwrap().code(), Some(3));
        assert_eq!(process.ended().unwrap().code(), Some(3));
        process.pause();
        process.kill();
    }

    #[test]
    fn one_that_runs_can_be_asked_stopped_and_killed() {
        let process = shell("exec sleep 600");
        assert!(process.wait(Duration::from_millis(20)).is_none());
        assert!(process.ended().is_none() && process.id() > 1);
        process.pause();
        process.resume();
        process.ask_to_end();
        assert_eq!(process.wait(Duration::from_secs(30)).unwrap().signal(), Some(15));
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let stubborn = shell(&format!("trap '' TERM; touch '{}'; while :; do sleep 1; done", ready.display()));
        while !ready.exists() {
            assert!(stubborn.wait(Duration::from_millis(10)).is_none(), "it runs until it is killed");
        }
        stubborn.ask_to_end();
        assert!(stubborn.wait(Duration::from_millis(100)).is_none());
        stubborn.pause();
        stubborn.kill();
        assert_eq!(stubborn.ended().unwrap().signal(), Some(9));
    }

    #[test]
    fn it_lives_on_when_the_thread_that_asked_for_it_ends_and_dies_when_it_is_dropped() {
        let process = std::thread::spawn(|| shell("exec sleep 600")).join().unwrap();
        assert!(process.wait(Duration::from_millis(100)).is_none());
        let shared = Arc::clone(&process.shared);
        drop(process);
        assert_eq!(shared.ended().unwrap().signal(), Some(9));
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let error = Process::start(Command::new("/nowhere/temporal")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
