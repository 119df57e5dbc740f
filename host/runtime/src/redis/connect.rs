//! One connection: socket, TLS, password, database, name.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::{MultiplexedConnection, PubSub};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::guard::{Guarded, Meter, Transport};
use super::settings::{Endpoint, Target};

/// Requests that may wait in the crate's channel. Never reached: `concurrency` calls with 1,000 commands each are far fewer. A full
/// channel would let commands of one pipeline overtake each other.
const CHANNEL: usize = 1 << 20;

/// Why an attempt failed, for a person. Never holds a password: neither the system nor the server sends one back.
#[derive(Debug, Clone)]
pub(super) struct ConnectError(pub(super) String);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connection that is ready, and what drives it.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    pub(super) meter: Arc<Meter>,
    /// Ends when the connection does.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Connects within the target's time. `allowed`: bytes of one reply.
pub(super) async fn connect(target: &Target, name: &str, allowed: u64) -> Result<Connected, ConnectError> {
    let meter = Meter::new();
    let attempt = async {
        let transport = transport(&target.endpoint).await?;
        let stream = Guarded::new(transport, Arc::clone(&meter), allowed);
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(CHANNEL);
        let made = MultiplexedConnection::new_with_config(&target.login, stream, config).await;
        let (connection, driver) = made.map_err(|error| refused(&error))?;
        let mut driver: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(driver);
        // The name is for the operator's CLIENT LIST; a user that may not set it works without.
        let mut named = connection.clone();
        let set_name = async move {
            let mut command = redis::cmd("CLIENT");
            command.arg("SETNAME").arg(format!("compozy:{name}"));
            if let Ok(redis::Value::ServerError(error)) = named.send_packed_command(&command).await {
                tracing::debug!(%error, "the connection to Redis has no name");
            }
        };
        tokio::select! {
            () = driver.as_mut() => return Err(ConnectError("the server closed the connection at once".to_owned())),
            () = set_name => {}
        }
        Ok((connection, driver))
    };
    let (connection, driver) = in_time(target.connect_timeout, attempt).await?;
    Ok(Connected { connection, meter, driver })
}

/// Connects to listen for messages.
pub(super) async fn listen(target: &Target, channel: &str, allowed: u64) -> Result<PubSub, ConnectError> {
    let attempt = async {
        let stream = Guarded::new(transport(&target.endpoint).await?, Meter::new(), allowed);
        let mut messages = PubSub::new(&target.login, stream).await.map_err(|error| refused(&error))?;
        messages.subscribe(channel).await.map_err(|error| refused(&error))?;
        Ok(messages)
    };
    in_time(target.connect_timeout, attempt).await
}

async fn in_time<T>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError(format!("no answer within {} ms", limit.as_millis()))),
    }
}

fn refused(error: &redis::RedisError) -> ConnectError {
    // Of a refused password, the crate tells no more than that.
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        return ConnectError("the server refuses the user or the password".to_owned());
    }
    ConnectError(match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    })
}

async fn transport(endpoint: &Endpoint) -> Result<Pin<Box<dyn Transport>>, ConnectError> {
    let failed = |error: std::io::Error| ConnectError(error.to_string());
    match endpoint {
        Endpoint::Unix(path) => Ok(Box::pin(UnixStream::connect(path).await.map_err(failed)?)),
        Endpoint::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let Some(tls) = tls else { return Ok(Box::pin(stream)) };
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            let stream = connector.connect(tls.name.clone(), stream).await;
            Ok(Box::pin(stream.map_err(|error| ConnectError(format!("TLS: {error}")))?))
        }
    }
}
