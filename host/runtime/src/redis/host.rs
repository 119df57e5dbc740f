//! The functions that guests import.

use std::sync::Arc;

use wasmtime::Result as HostResult;
use wasmtime::component::Resource;

use super::client::{RedisClient, ScriptText};
use super::error::{invalid, too_large};
use crate::bindings::compozy::host::redis::{
    Atomicity, Commands, FoundKeys, Host, HostScript, RedisError, Reply, Span,
};
use crate::limits::Limit;

/// A prepared script, as a guest's handle names it. The handle's number is its place among the instance's scripts.
#[derive(Debug)]
pub struct Script;

/// The part of a guest's state that serves `compozy:host/redis`.
#[derive(Debug)]
pub struct RedisAccess(Access);

#[derive(Debug)]
enum Access {
    /// Each function answers this sentence.
    Denied(String),
    Granted(Granted),
}

#[derive(Debug)]
struct Granted {
    client: Arc<RedisClient>,
    scripts: Vec<Option<ScriptText>>,
    free: Vec<u32>,
}

impl RedisAccess {
    /// No access; `why` tells the plugin's author and the operator what to do.
    pub fn denied(why: impl Into<String>) -> Self {
        Self(Access::Denied(why.into()))
    }

    /// Access to a plugin's part of the server.
    pub fn granted(client: Arc<RedisClient>) -> Self {
        Self(Access::Granted(Granted { client, scripts: Vec::new(), free: Vec::new() }))
    }

    fn get(&mut self) -> Result<&mut Granted, RedisError> {
        match &mut self.0 {
            Access::Denied(why) => Err(RedisError::Denied(why.clone())),
            Access::Granted(granted) => Ok(granted),
        }
    }
}

impl Granted {
    fn prepare(&mut self, source: String) -> Result<u32, RedisError> {
        let allowed = self.client.limits().get(Limit::RedisScripts);
        let live = (self.scripts.len() - self.free.len()) as u64;
        if live >= allowed {
            return Err(too_large(Limit::RedisScripts, live + 1, allowed));
        }
        let script = Some(self.client.script(source)?);
        if let Some(number) = self.free.pop() {
            self.scripts[number as usize] = script;
            return Ok(number);
        }
        self.scripts.push(script);
        Ok(self.scripts.len() as u32 - 1)
    }

    fn script(&self, number: u32) -> Result<&ScriptText, RedisError> {
        let found = self.scripts.get(number as usize).and_then(Option::as_ref);
        found.ok_or_else(|| invalid("the script is closed"))
    }
}

impl Host for RedisAccess {
    async fn run(&mut self, commands: Commands, atomicity: Atomicity) -> HostResult<Result<Reply, RedisError>> {
        Ok(match self.get() {
            Ok(granted) => granted.client.run(&commands, atomicity).await,
            Err(error) => Err(error),
        })
    }

    fn prepare(&mut self, source: String) -> HostResult<Result<Resource<Script>, RedisError>> {
        Ok(self.get().and_then(|granted| granted.prepare(source)).map(Resource::new_own))
    }

    async fn scan(
        &mut self,
        prefix: String,
        cursor: Option<String>,
        max: u32,
    ) -> HostResult<Result<FoundKeys, RedisError>> {
        Ok(match self.get() {
            Ok(granted) => granted.client.scan(&prefix, cursor.as_deref(), max).await,
            Err(error) => Err(error),
        })
    }
}

impl HostScript for RedisAccess {
    async fn invoke(
        &mut self,
        script: Resource<Script>,
        keys: u32,
        arguments: Vec<Span>,
        bytes: Vec<u8>,
    ) -> HostResult<Result<Reply, RedisError>> {
        let granted = match self.get() {
            Ok(granted) => granted,
            Err(error) => return Ok(Err(error)),
        };
        Ok(match granted.script(script.rep()) {
            Ok(text) => granted.client.invoke(text, keys, &arguments, &bytes).await,
            Err(error) => Err(error),
        })
    }

    fn drop(&mut self, script: Resource<Script>) -> HostResult<()> {
        let number = script.rep();
        if let Ok(granted) = self.get()
            && let Some(place) = granted.scripts.get_mut(number as usize)
            && place.take().is_some()
        {
            granted.free.push(number);
        }
        Ok(())
    }
}
