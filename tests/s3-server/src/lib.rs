//! A real server that speaks S3, inside of the test's process: a folder behind a free port, with keys that are checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The one bucket that is there from the start.
pub const BUCKET: &str = "bucket";
/// The access key.
pub const ACCESS_KEY_ID: &str = "test-key";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "test-secret";

/// A server; gone when it is dropped, with all that it kept.
#[derive(Debug)]
pub struct S3Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl S3Server {
    /// Serves on a free port.
    ///
    /// # Errors
    /// There is no folder or no port.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the objects")?;
        std::fs::create_dir(folder.path().join(BUCKET)).context("the bucket")?;
        let (running, address) = serve(&folder, ([127, 0, 0, 1], 0).into())?;
        Ok(Self { folder, address, running: Some(running) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the objects of the bucket lie.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// Stops it; connections are cut. The objects stay.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            drop(stop);
            drop(thread.join());
        }
    }

    /// Serves again, on the same port.
    ///
    /// # Errors
    /// Somebody else has taken the port.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.running = Some(serve(&self.folder, self.address)?.0);
        Ok(())
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn service(folder: &tempfile::TempDir) -> Result<S3Service> {
    let files = FileSystem::new(folder.path()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
    Ok(builder.build())
}

fn serve(folder: &tempfile::TempDir, address: SocketAddr) -> Result<(Running, SocketAddr)> {
    let service = service(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let listener = runtime.block_on(TcpListener::bind(address)).with_context(|| format!("listen on {address}"))?;
    let address = listener.local_addr().context("the port")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("s3-server".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stopped => {}
                () = accept(listener, service) => {}
            }
        });
        // The connections end with it.
        runtime.shutdown_background();
    });
    Ok((Running { stop, thread: thread.context("a thread")? }, address))
}

async fn accept(listener: TcpListener, service: S3Service) {
    let http = hyper::server::conn::http1::Builder::new();
    while let Ok((stream, _)) = listener.accept().await {
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move { drop(connection.await) });
    }
}
