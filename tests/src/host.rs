//! The host as a child process that never outlives its test.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::project::Sandbox;
use crate::{PATIENCE, eventually};

/// The binary that `cargo build` put beside the test executables.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test executable has a path");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let binary = profile.join("compozy-host");
    assert!(binary.exists(), "{} is missing: run `cargo build -p compozy-host` first", binary.display());
    binary
}

/// What a command left.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as one JSON document.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// A command of the host, run in `folder` with no environment but what it needs.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).current_dir(folder).env_clear().env("HOME", folder).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(folder: &Path, args: &[&str]) -> Result<Outcome> {
    finish(command(folder, args))
}

/// Runs a prepared command to its end; kills it when it takes longer than [`PATIENCE`].
pub fn finish(mut command: Command) -> Result<Outcome> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start the host")?;
    let mut child = Killed(child);
    let stdout = drain(child.0.stdout.take().context("piped")?);
    let stderr = drain(child.0.stderr.take().context("piped")?);
    let status = wait(&mut child.0)?;
    let (stdout, stderr) = (stdout.recv()?, stderr.recv()?);
    Ok(Outcome { code: status.code(), stdout, stderr })
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pipe on a thread of its own, so that a full pipe never stops the host.
fn drain(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("the host did not end within {PATIENCE:?}")
}

/// A host that serves.
pub struct Host {
    child: Killed,
    address: String,
    log: PathBuf,
    /// What comes after the first line. In a lock only so that threads can share the host.
    stdout: Mutex<mpsc::Receiver<String>>,
}

impl Host {
    /// Serves the sandbox's project and plugins on a free port.
    pub fn start(sandbox: &Sandbox) -> Result<Self> {
        Self::start_with(sandbox, &[])
    }

    /// The same with more arguments.
    pub fn start_with(sandbox: &Sandbox, more: &[&str]) -> Result<Self> {
        let (project, data, plugins) = (sandbox.project(), sandbox.data(), sandbox.plugins());
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let (project, data, plugins) = (path(&project)?, path(&data)?, path(&plugins)?);
        let mut args =
            vec!["--listen", "127.0.0.1:0", "--project", &project, "--data-dir", &data, "--plugins", &plugins];
        args.extend(more);
        Self::launch(sandbox, command(sandbox.root(), &args))
    }

    /// Starts a prepared command and waits until it listens.
    pub fn launch(sandbox: &Sandbox, mut command: Command) -> Result<Self> {
        let log = sandbox.root().join("host.log");
        let file = File::options().create(true).append(true).open(&log)?;
        let mut child = Killed(command.stdout(Stdio::piped()).stderr(file).spawn().context("start the host")?);
        let mut stdout = BufReader::new(child.0.stdout.take().context("piped")?);
        let (send, first) = mpsc::channel();
        let (send_rest, rest) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = send.send(line);
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            let _ = send_rest.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        let line = first.recv_timeout(PATIENCE).context("the host says where it listens")?;
        let address = line.trim().strip_prefix("listening http://").map(str::to_owned);
        let Some(address) = address else {
            let status = wait(&mut child.0)?;
            bail!("the host did not start ({status}): {line}\n{}", fs::read_to_string(&log).unwrap_or_default());
        };
        Ok(Self { child, address, log, stdout: Mutex::new(rest) })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.0.id()
    }

    /// What the host logged so far, all starts of the sandbox together.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Answer> {
        http::send(&self.address, "GET", path, &[], b"").with_context(|| self.log())
    }

    /// POST of JSON text with more headers.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        http::send(&self.address, "POST", path, &all, body.as_bytes()).with_context(|| self.log())
    }

    /// Asks for a start of a workflow.
    pub fn try_start(&self, workflow: &str, input: &Value) -> Result<Answer> {
        let path = format!("/api/v0/workflows/{workflow}/executions");
        self.post(&path, &[], &json!({ "input": input }).to_string())
    }

    /// Starts a workflow and answers the execution's id.
    pub fn start_workflow(&self, workflow: &str, input: &Value) -> Result<String> {
        let answer = self.try_start(workflow, input)?;
        ensure!(answer.status == 202, "{answer:?}\n{}", self.log());
        Ok(answer.body["exec_id"].as_str().context("an id")?.to_owned())
    }

    /// An execution as it stands.
    pub fn execution(&self, id: &str) -> Result<Value> {
        let answer = self.get(&format!("/api/v0/executions/{id}"))?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }

    /// Waits for the end of an execution.
    pub fn ended(&self, id: &str) -> Result<Value> {
        eventually(&format!("end of execution {id}; log:\n{}", self.log()), || match self.execution(id) {
            Err(error) => Some(Err(error)),
            Ok(body) => (!["PENDING", "RUNNING"].contains(&body["status"].as_str()?)).then_some(Ok(body)),
        })
    }

    /// Runs a workflow to its end.
    pub fn run(&self, workflow: &str, input: &Value) -> Result<Value> {
        self.ended(&self.start_workflow(workflow, input)?)
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.child.0.id())?).context("a process id")
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        Ok(rustix::process::kill_process(self.pid()?, Signal::TERM)?)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) -> Result<()> {
        self.child.0.kill()?;
        self.child.0.wait()?;
        Ok(())
    }

    /// Waits until the process ended by itself; the exit code and the rest of its standard output.
    pub fn wait(mut self) -> Result<(Option<i32>, String)> {
        let status = wait(&mut self.child.0)?;
        let rest = self.stdout.get_mut().expect("nobody panicked with it").recv_timeout(PATIENCE)?;
        Ok((status.code(), rest))
    }

    /// From now on no file of the host may grow beyond so many bytes; `None` lifts that again.
    pub fn limit_file_size(&self, bytes: Option<u64>) -> Result<()> {
        let limit = Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(self.pid()?), Resource::Fsize, limit)?;
        Ok(())
    }
}
