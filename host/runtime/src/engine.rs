//! The one wasmtime engine of the process, and the thread that turns its epochs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::Limit;

/// How often running guests are looked at.
pub const TICK: Duration = Duration::from_millis(10);
/// After this long without a tick the ticker counts as dead.
const HEARTBEAT_MAX: Duration = Duration::from_secs(2);
/// Stack of one call: the guest's part, and as much again thrice for the host's functions on top of it.
const FIBER_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Instances that exist at once, of all plugins together.
pub const INSTANCES_MAX: u32 = 512;
/// Memory of an instance that is cleared and kept rather than given back to the system.
const MEMORY_KEEP_BYTES: usize = 1024 * 1024;
const TABLE_KEEP_BYTES: usize = 64 * 1024;

/// The engine's configuration. `metering`: count fuel and look at the epoch, as the host always does; without it only
/// to measure what metering costs.
pub fn config(metering: bool) -> Config {
    let stack = usize::try_from(Limit::StackBytes.spec().max).expect("a stack fits the address space");
    let mut config = Config::new();
    config
        .consume_fuel(metering)
        .epoch_interruption(metering)
        .max_wasm_stack(stack)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_memory64(false)
        .wasm_component_model_memory64(false)
        .wasm_relaxed_simd(false)
        // The contract has synchronous functions only, so stores need no data for concurrent calls.
        .concurrency_support(false)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config
}

fn pooling() -> PoolingAllocationConfig {
    let most = |limit: Limit| u32::try_from(limit.spec().max).expect("counts are small");
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * 8)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * 4)
        .total_stacks(INSTANCES_MAX)
        .max_core_instances_per_component(most(Limit::Instances))
        .max_memories_per_component(most(Limit::Memories))
        .max_memories_per_module(most(Limit::Memories))
        .max_tables_per_component(most(Limit::Tables))
        .max_tables_per_module(most(Limit::Tables))
        .table_elements(usize::try_from(Limit::TableElements.spec().max).expect("fits"))
        .linear_memory_keep_resident(MEMORY_KEEP_BYTES)
        .table_keep_resident(TABLE_KEEP_BYTES)
        // Only what a call has touched is cleared, where the kernel can tell (Linux 6.7); else all that is kept.
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(INSTANCES_MAX / 4);
    pool
}

/// Configures an engine to take its instances from a pool.
pub fn with_pool(config: &mut Config) -> &mut Config {
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling()))
}

/// An engine whose epochs advance for as long as it lives.
#[derive(Debug)]
pub struct SandboxEngine {
    engine: Engine,
    pooled: bool,
    ticker: Ticker,
}

impl SandboxEngine {
    /// Makes the engine. Instances come from a pool where the address space has room for one.
    pub fn open() -> wasmtime::Result<Self> {
        let (engine, pooled) = match Engine::new(with_pool(&mut config(true))) {
            Ok(engine) => (engine, true),
            Err(error) => {
                tracing::warn!(%error, "no room for a pool of instances; they are made on demand, which is slower");
                (Engine::new(&config(true))?, false)
            }
        };
        let ticker = Ticker::start(&engine)?;
        Ok(Self { engine, pooled, ticker })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether instances come from a pool.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// Whether epochs advance. When they do not, no guest can be interrupted and the host must not be called healthy.
    pub fn ticking(&self) -> bool {
        self.ticker.alive()
    }
}

/// A thread of its own: a task could be starved by the guests that it is there to interrupt.
#[derive(Debug)]
struct Ticker {
    shared: Arc<Beat>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Beat {
    begun: Instant,
    last_ms: AtomicU64,
    stop: AtomicBool,
}

impl Ticker {
    fn start(engine: &Engine) -> wasmtime::Result<Self> {
        let shared = Arc::new(Beat { begun: Instant::now(), last_ms: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let (weak, beat) = (engine.weak(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("epoch-ticker".to_owned()).spawn(move || {
            while !beat.stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(TICK);
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
                let now = u64::try_from(beat.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                beat.last_ms.store(now, Ordering::Relaxed);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn alive(&self) -> bool {
        let last = Duration::from_millis(self.shared.last_ms.load(Ordering::Relaxed));
        self.shared.begun.elapsed().saturating_sub(last) < HEARTBEAT_MAX
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the epoch ticker had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticker_beats_and_ends_with_its_engine() {
        let sandbox = SandboxEngine::open().unwrap();
        assert!(sandbox.pooled(), "64-bit machines have the room");
        let deadline = Instant::now() + Duration::from_secs(5);
        while sandbox.ticker.shared.last_ms.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "no tick in five seconds");
            std::thread::sleep(TICK);
        }
        assert!(sandbox.ticking());
        let beat = Arc::clone(&sandbox.ticker.shared);
        drop(sandbox);
        assert_eq!(Arc::strong_count(&beat), 1, "the thread is gone");
    }

    #[test]
    fn a_ticker_without_beats_is_told() {
        let long_ago = Instant::now().checked_sub(HEARTBEAT_MAX * 2).expect("the machine runs for some seconds");
        let beat = Beat { begun: long_ago, last_ms: AtomicU64::new(1), stop: AtomicBool::new(false) };
        assert!(!Ticker { shared: Arc::new(beat), thread: None }.alive());
    }
}
