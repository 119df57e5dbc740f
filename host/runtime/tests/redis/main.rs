//! The native side of `compozy:host/redis` against a real `redis-server`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod changes;
mod faults;
mod refused;
mod relay;
mod support;
mod values;
