//! Small hosts.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use compozy_embed::{Host, HostBuilder};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Ends at once.
pub(crate) const QUICK: &str = "id: quick
version: 0.1.0
triggers: [{ type: signal, name: wanted }]
tasks: [{ id: a, type: aggregate, outputs: { said: '{{ .input.word }}' } }]
";

/// Waits for the signal `go`.
pub(crate) const WAITS: &str = "id: waits
version: 0.1.0
triggers: [{ type: signal, name: wanted, schema: { type: object, required: [number] } }]
tasks: [{ id: w, type: wait, wait_for: go, outputs: '{{ .output.signal.payload.number }}' }]
";

/// Calls a plugin that is built in.
pub(crate) const CALLS: &str = "id: calls
version: 0.1.0
tools: [{ id: climate, plugin: weather, action: climate, config: { live: false } }]
tasks: [{ id: a, tool: climate, with: { city: Lisbon } }]
";

/// A small host with these workflows.
pub(crate) fn small(data: &Path) -> HostBuilder {
    Host::builder(data)
        .workflow("quick.yaml", QUICK)
        .workflow("waits.yaml", WAITS)
        .workflow("calls.yaml", CALLS)
        .guest_threads(NonZeroUsize::MIN)
        .drain(Duration::from_secs(5))
}

/// Waits until something is so.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
