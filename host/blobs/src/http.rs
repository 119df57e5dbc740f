//! The way to S3-compatible storage: HTTP/1.1 over hyper, with TLS by rustls and ring, which the host has anyway.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// From the address to a connection, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// From the request to the head of its answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// A connection without work is closed after this long.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Makes clients; each has a pool of connections of its own.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    dialer: Dialer,
}

impl Connector {
    /// Trusts the public authorities, or those of a file (PEM).
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let unusable = |why: String| format!("the certificates `{}` cannot be used: {why}", path.display());
                let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                    roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
                }
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { dialer: Dialer { tls: TlsConnector::from(Arc::new(config)) } })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(self.dialer.clone());
        Ok(HttpClient::new(Http(client)))
    }
}

/// One client.
#[derive(Debug)]
struct Http(Client<Dialer, HttpRequestBody>);

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let lists = request.uri().query().is_some_and(|query| query.contains("list-type="));
        let answered = tokio::time::timeout(ANSWER_MAX, self.0.request(request)).await;
        let slow = |_elapsed| {
            let reason = format!("no answer within {} ms", ANSWER_MAX.as_millis());
            HttpError::new(HttpErrorKind::Timeout, io::Error::new(io::ErrorKind::TimedOut, reason))
        };
        let answer = answered.map_err(slow)?.map_err(|error| failed(&error))?;
        let (head, body) = answer.into_parts();
        if lists && refuses(head.status) {
            return Err(HttpError::new(HttpErrorKind::Unknown, Refusal(head.status)));
        }
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// The storage will not list. `object_store` has a type of its own for this with every other request.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it answers {0} to a list")]
pub(crate) struct Refusal(pub(crate) StatusCode);

/// Whether an answer is final: who asks again gets it again.
fn refuses(status: StatusCode) -> bool {
    status.is_client_error() && ![StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

fn failed(error: &Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    // The client's own words say little without what is behind them.
    let mut reason = error.to_string();
    let mut behind = std::error::Error::source(error);
    while let Some(cause) = behind {
        reason = cause.to_string();
        behind = cause.source();
    }
    HttpError::new(kind, io::Error::other(reason))
}

/// Opens connections.
#[derive(Clone)]
struct Dialer {
    tls: TlsConnector,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let slow = |_elapsed| {
                io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} ms", CONNECT_MAX.as_millis()))
            };
            tokio::time::timeout(CONNECT_MAX, dial(tls, to)).await.map_err(slow)?.map(TokioIo::new)
        })
    }
}

async fn dial(tls: TlsConnector, to: Uri) -> io::Result<Wire> {
    let secure = to.scheme_str() == Some("https");
    let host = to.host().ok_or_else(|| io::Error::other("the address has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = to.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    if !secure {
        return Ok(Wire(Box::new(stream)));
    }
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Wire(Box::new(tls.connect(name, stream).await?)))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// With TLS or without.
struct Wire(Box<dyn Stream>);

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
