//! A relay in front of a server, which stops a connection in the middle of a large answer until it is told to go on.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Relay {
    port: u16,
    stopped: watch::Receiver<bool>,
    open: Arc<watch::Sender<bool>>,
    /// Ends with the relay.
    _connections: JoinSet<()>,
}

impl Relay {
    /// A connection that has carried so many bytes of answers carries no more until `go_on`.
    pub(crate) async fn start(server: u16, bytes: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = watch::channel(false);
        let (stop, open) = (Arc::new(stop), Arc::new(watch::Sender::new(false)));
        let mut connections = JoinSet::new();
        let gate = Arc::clone(&open);
        connections.spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let ((mut asks, answers), (from, mut to)) = (client.into_split(), server.into_split());
                pairs.spawn(async move {
                    let _ = tokio::io::copy(&mut asks, &mut to).await;
                });
                let (stop, gate) = (Arc::clone(&stop), gate.subscribe());
                pairs.spawn(carry(from, answers, bytes, stop, gate));
            }
        });
        Self { port, stopped, open, _connections: connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits until a connection has been stopped.
    pub(crate) async fn stopped(&mut self) {
        self.stopped.wait_for(|stopped| *stopped).await.unwrap();
    }

    pub(crate) fn go_on(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    bytes: usize,
    stop: Arc<watch::Sender<bool>>,
    mut gate: watch::Receiver<bool>,
) {
    let (mut buffer, mut carried) = (vec![0; 64 * 1024], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        carried += read;
        if carried >= bytes {
            stop.send_replace(true);
            if gate.wait_for(|open| *open).await.is_err() {
                return;
            }
        }
    }
}
