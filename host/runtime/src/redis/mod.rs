//! The native side of `compozy:host/redis`.

use std::sync::Arc;

use wasmtime::Result as HostResult;
use wasmtime::component::Resource;

use crate::bindings::compozy::host::redis::{
    Atomicity, Commands, FoundKeys, Host, HostScript, RedisError, Reply, Span,
};
use crate::limits::Limits;

/// A prepared script, as a guest's handle names it.
#[derive(Debug)]
pub struct Script;

/// Where the Redis server is.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://` or `redis+unix://`.
    pub url: String,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RedisOpenError(String);

/// One plugin's part of the server.
#[derive(Debug)]
pub struct RedisClient;

impl RedisClient {
    /// For the plugin of this name.
    pub fn new(_: &RedisSettings, _: &str, _: Limits) -> Result<Arc<Self>, RedisOpenError> {
        Err(RedisOpenError("not here yet".to_owned()))
    }
}

/// The part of a guest's state that serves `compozy:host/redis`.
#[derive(Debug)]
pub struct RedisAccess(String);

impl RedisAccess {
    /// No access.
    pub fn denied(why: impl Into<String>) -> Self {
        Self(why.into())
    }
    /// Access.
    pub fn granted(_: Arc<RedisClient>) -> Self {
        Self(String::new())
    }
}

impl Host for RedisAccess {
    async fn run(&mut self, _: Commands, _: Atomicity) -> HostResult<Result<Reply, RedisError>> {
        Ok(Err(RedisError::Denied(self.0.clone())))
    }
    fn prepare(&mut self, _: String) -> HostResult<Result<Resource<Script>, RedisError>> {
        Ok(Err(RedisError::Denied(self.0.clone())))
    }
    async fn scan(&mut self, _: String, _: Option<String>, _: u32) -> HostResult<Result<FoundKeys, RedisError>> {
        Ok(Err(RedisError::Denied(self.0.clone())))
    }
}

impl HostScript for RedisAccess {
    async fn invoke(
        &mut self,
        _: Resource<Script>,
        _: u32,
        _: Vec<Span>,
        _: Vec<u8>,
    ) -> HostResult<Result<Reply, RedisError>> {
        Ok(Err(RedisError::Denied(self.0.clone())))
    }
    fn drop(&mut self, _: Resource<Script>) -> HostResult<()> {
        Ok(())
    }
}
