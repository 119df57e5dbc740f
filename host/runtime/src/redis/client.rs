//! One plugin's part of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisWrite, ServerErrorKind, Value};
use tokio::sync::broadcast;

use super::changes::Changes;
use super::commands::Answer;
use super::encode::{self, Ready, slices};
use super::error::{client, invalid, server, too_large};
use super::guard::mark;
use super::lanes::{Lanes, Live};
use super::reply::Collector;
use super::settings::{Endpoint, RedisOpenError, RedisSettings, Target};
use crate::bindings::compozy::host::redis::{Atomicity, Commands, RedisError, Reply};
use crate::bindings::compozy::types::buffers::Span;
use crate::limits::{Limit, Limits};

/// One plugin's part of the server, shared by all of its instances.
#[derive(Debug)]
pub struct RedisClient {
    pub(super) endpoint: Endpoint,
    /// What the plugin's keys begin with: `<prefix>:<plugin>:`.
    pub(super) prefix: String,
    pub(super) limits: Limits,
    pub(super) lanes: Lanes,
    changes: Changes,
    /// Numbers of marks so far.
    marks: AtomicU64,
}

/// A script with its hash, under which the server keeps it.
#[derive(Debug)]
pub struct ScriptText {
    source: String,
    hash: String,
}

impl RedisClient {
    /// For the plugin of this name. Connects to nobody: that is done when the first command is run.
    pub fn new(settings: &RedisSettings, plugin: &str, limits: Limits) -> Result<Arc<Self>, RedisOpenError> {
        let target = Target::new(settings)?;
        let prefix = format!("{}:{plugin}:", settings.prefix);
        let allowed = limits.get(Limit::HostcallBytes);
        let changes = Changes::new(target.clone(), format!("{prefix}changes"), allowed);
        let endpoint = target.endpoint.clone();
        let lanes = Lanes::new(target, plugin, allowed);
        Ok(Arc::new(Self { endpoint, prefix, limits, lanes, changes, marks: AtomicU64::new(0) }))
    }

    /// The limits that hold for the plugin.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the plugin's keys begin with on the server.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Topics of the plugin's `PUBLISH changes TOPIC`, from every host on this server. Messages can be lost. The connection
    /// that listens is there while somebody holds a receiver.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.changes.subscribe()
    }

    /// Runs commands of the allow-list.
    pub async fn run(&self, commands: &Commands, atomicity: Atomicity) -> Result<Reply, RedisError> {
        let ready = encode::commands(commands, self.prefix.as_bytes(), self.allowed())?;
        let size = commands.bytes.len();
        let (lanes, timeout) = (&self.lanes, self.timeout());
        match atomicity {
            Atomicity::Pipeline => lanes.call(timeout, size, async |to, _| self.pipeline(to, ready).await).await,
            Atomicity::Transaction => {
                lanes.call(timeout, size, async |to, live| self.transaction(to, live, ready).await).await
            }
        }
    }

    /// Computes a script's hash. Sends nothing.
    pub fn script(&self, source: String) -> Result<ScriptText, RedisError> {
        let (used, allowed) = (source.len() as u64, self.limits.get(Limit::RedisScriptBytes));
        if used > allowed {
            return Err(too_large(Limit::RedisScriptBytes, used, allowed));
        }
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Ok(ScriptText { source, hash })
    }

    /// Runs a script on arguments of which the first `keys` are keys.
    pub async fn invoke(
        &self,
        script: &ScriptText,
        keys: u32,
        arguments: &[Span],
        bytes: &[u8],
    ) -> Result<Reply, RedisError> {
        let arguments = slices(arguments, bytes, self.allowed())?;
        let keys = keys as usize;
        if keys > arguments.len() {
            return Err(invalid(format!("{keys} keys were declared, but there are {} arguments", arguments.len())));
        }
        let size = bytes.len() + script.hash.len() + 32 + keys * self.prefix.len();
        let mut call = Cmd::with_capacity(arguments.len() + 3, size);
        call.arg("EVALSHA").arg(&script.hash).arg(keys);
        for (index, argument) in arguments.into_iter().enumerate() {
            if index < keys {
                encode::key(&mut call, self.prefix.as_bytes(), argument);
            } else {
                call.write_arg(argument);
            }
        }
        let value = self.lanes.call(self.timeout(), size, async |to, _| self.evaluate(to, script, call).await).await?;
        if let Value::ServerError(error) = &value {
            return Err(server(error));
        }
        let mut collector = self.collector();
        collector.add(value, Answer::Large)?;
        Ok(collector.finish())
    }

    async fn evaluate(
        &self,
        mut to: MultiplexedConnection,
        script: &ScriptText,
        call: Cmd,
    ) -> Result<Value, RedisError> {
        let value = to.send_packed_command(&call).await.map_err(|error| self.error(error))?;
        if !is_no_script(&value) {
            return Ok(value);
        }
        // The server was restarted, or its scripts were flushed. One after the other on one connection, so that nothing comes between
        // but another flush.
        let mut load = Cmd::with_capacity(3, script.source.len() + 16);
        load.arg("SCRIPT").arg("LOAD").arg(&script.source);
        let mut loading = to.clone();
        let loaded = loading.send_packed_command(&load);
        let called = to.send_packed_command(&call);
        let (loaded, called) = futures_util::future::join(loaded, called).await;
        match loaded.map_err(|error| self.error(error))? {
            // A script that does not compile, or a user that may not load one.
            Value::ServerError(error) => Err(server(&error)),
            _ => called.map_err(|error| self.error(error)),
        }
    }

    async fn pipeline(&self, mut to: MultiplexedConnection, ready: Vec<Ready>) -> Result<Reply, RedisError> {
        let mut collector = self.collector();
        if let [one] = ready.as_slice() {
            let value = to.send_packed_command(&one.command).await.map_err(|error| self.error(error))?;
            collector.add(value, one.answer)?;
        } else if ready.iter().all(|ready| ready.answer == Answer::Short) {
            let (pipeline, answers) = pipeline(ready);
            let values =
                to.send_packed_commands(&pipeline, 0, answers.len()).await.map_err(|error| self.error(error))?;
            for (value, answer) in values.into_iter().zip(answers) {
                collector.add(value, answer)?;
            }
        } else {
            // One by one, so that answers are counted as they come and what is too large is never in memory as a whole. The first
            // poll sends; the channel is never full, so the order stays.
            let mut sent = Vec::with_capacity(ready.len());
            for Ready { command, answer } in ready {
                let mut to = to.clone();
                let mut call = Box::pin(async move { to.send_packed_command(&command).await });
                // Without tokio's budget, which would put off what is sent late.
                let early = tokio::task::unconstrained(call.as_mut()).now_or_never();
                sent.push((call, early, answer));
            }
            for (call, early, answer) in sent {
                let value = match early {
                    Some(value) => value,
                    None => call.await,
                };
                collector.add(value.map_err(|error| self.error(error))?, answer)?;
            }
        }
        Ok(collector.finish())
    }

    async fn transaction(
        &self,
        mut to: MultiplexedConnection,
        live: &Live,
        ready: Vec<Ready>,
    ) -> Result<Reply, RedisError> {
        let number = self.marks.fetch_add(1, Ordering::Relaxed) + 1;
        let marked = ready.iter().any(|ready| ready.answer != Answer::Short);
        let mut commands = Vec::with_capacity(ready.len() + 1);
        if marked {
            let mut command = redis::cmd("PING");
            command.arg(mark(number).as_slice());
            commands.push(Ready { command, answer: Answer::Short });
        }
        commands.extend(ready);
        let first = usize::from(marked);
        let (mut pipeline, answers) = pipeline(commands);
        pipeline.atomic();
        // MULTI and what is queued answer first; only the answer of EXEC counts.
        let sent = to.send_packed_commands(&pipeline, answers.len() + 1, 1).await;
        let values = sent.map_err(|error| match live.too_large(number) {
            Some(used) => too_large(Limit::HostcallBytes, used, self.allowed()),
            None => client(error, first, &self.endpoint),
        })?;
        let mut collector = self.collector();
        match values.into_iter().next() {
            Some(Value::Array(values)) if values.len() == answers.len() => {
                for (value, answer) in values.into_iter().zip(answers).skip(first) {
                    collector.add(value, answer)?;
                }
                Ok(collector.finish())
            }
            Some(Value::ServerError(error)) => Err(server(&error)),
            other => {
                let found = if other.is_some() { "an answer of another form" } else { "nothing" };
                Err(RedisError::Unavailable(format!("Redis at {} answered {found} to EXEC", self.endpoint)))
            }
        }
    }

    pub(super) fn collector(&self) -> Collector<'_> {
        Collector::new(self.prefix.as_bytes(), self.allowed())
    }

    pub(super) fn allowed(&self) -> u64 {
        self.limits.get(Limit::HostcallBytes)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.limits.duration(Limit::RedisTimeoutMs)
    }

    pub(super) fn error(&self, error: redis::RedisError) -> RedisError {
        client(error, 0, &self.endpoint)
    }
}

fn pipeline(ready: Vec<Ready>) -> (Pipeline, Vec<Answer>) {
    let mut pipeline = Pipeline::with_capacity(ready.len());
    let answers = ready.into_iter().map(|Ready { command, answer }| {
        pipeline.add_command(command);
        answer
    });
    let answers = answers.collect();
    (pipeline, answers)
}

fn is_no_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}
