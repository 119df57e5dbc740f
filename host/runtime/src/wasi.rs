//! WASI with nothing but what was granted: no arguments, no inherited environment or streams, no sockets, coarse clocks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{FsPerms, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use crate::capabilities::{Access, Effective};
use crate::clock::Clock;
use crate::identity::Identity;
use crate::limits::{Limit, Limits};
use crate::log::LogBudget;

/// Clocks tick this coarsely, so that a guest cannot time what its neighbours do.
const RESOLUTION: Duration = Duration::from_millis(1);
/// What one write of stdout or stderr may carry.
const WRITE_BYTES: usize = 8 * 1024;

/// The context of one instance. The error says what could not be given.
pub(crate) fn context(
    plugin: &Arc<Identity>,
    limits: &Limits,
    granted: &Effective,
    clock: &Arc<dyn Clock>,
    budget: &Arc<LogBudget>,
) -> Result<WasiCtx, String> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .wall_clock(WallClock(Arc::clone(clock)))
        .monotonic_clock(CoarseClock(Instant::now()))
        .max_random_size(limits.get(Limit::RandomBytes))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(GuestStream { name: "stdout", plugin: Arc::clone(plugin), budget: Arc::clone(budget) })
        .stderr(GuestStream { name: "stderr", plugin: Arc::clone(plugin), budget: Arc::clone(budget) });
    if !granted.env.is_empty() {
        builder.envs(&granted.env);
    }
    for (guest, host, access) in &granted.folders {
        let permissions = match access {
            Access::Read => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        builder
            .preopened_dir(host, guest, permissions)
            .map_err(|error| format!("the folder `{}` (seen as `{guest}`): {error}", host.display()))?;
    }
    Ok(builder.build())
}

struct WallClock(Arc<dyn Clock>);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now_ms())
    }
}

struct CoarseClock(Instant);

impl HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        u64::try_from(RESOLUTION.as_nanos()).expect("a millisecond fits")
    }

    fn now(&self) -> u64 {
        let millis = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX / 1_000_000);
        millis.saturating_mul(1_000_000)
    }
}

/// stdout or stderr of a guest: goes to the host's log at debug level, against the same budget as `compozy:host/log`.
#[derive(Clone)]
struct GuestStream {
    name: &'static str,
    plugin: Arc<Identity>,
    budget: Arc<LogBudget>,
}

impl GuestStream {
    fn line(&self, bytes: &[u8]) {
        if tracing::enabled!(target: "compozy::plugin", tracing::Level::DEBUG) {
            let text = String::from_utf8_lossy(bytes);
            let (plugin, digest, stream) = (self.plugin.name.as_str(), self.plugin.short_digest(), self.name);
            tracing::debug!(target: "compozy::plugin", plugin, digest, stream, "{}", text.trim_end());
        }
    }
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.budget.spend(bytes.len() as u64).map_err(|hit| StreamError::Trap(hit.into()))?;
        self.line(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if let Err(hit) = self.budget.spend(bytes.len() as u64) {
            return Poll::Ready(Err(std::io::Error::other(hit)));
        }
        self.line(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
