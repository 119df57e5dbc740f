//! Whether a server serves.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::HOST;

/// How long a connection on this machine may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// How long the program may take to ask; a server that is stopped accepts connections and never answers.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Asks a server on a port of this machine once whether it is well. Blocks, for 5.5 s at most.
pub fn serves(program: &Path, port: u16) -> bool {
    // Much cheaper than a process, and the usual answer while a server starts.
    let address = SocketAddr::from((HOST, port));
    TcpStream::connect_timeout(&address, CONNECT_MAX).is_ok() && healthy(program, address)
}

fn healthy(program: &Path, address: SocketAddr) -> bool {
    let mut command = Command::new(program);
    command.args(["operator", "cluster", "health", "--address", &address.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let until = Instant::now() + ANSWER_MAX;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(LOOK),
            Err(_) => break,
        }
    }
    // Neither can fail for a child of ours in a way that one could do something about.
    let _ = child.kill();
    let _ = child.wait();
    false
}
