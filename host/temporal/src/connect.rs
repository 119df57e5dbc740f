//! The connection to the server, and whether it is fit for runs.

use std::time::Duration;

use temporalio_client::errors::ClientConnectError;
use temporalio_client::tonic::{Code, IntoRequest as _};
use temporalio_client::{
    Client, ClientOptions, ClientTlsOptions, Connection, ConnectionOptions, GrpcCompression, TlsOptions,
};
use temporalio_common::protos::temporal::api::enums::v1::IndexedValueType;
use temporalio_common::protos::temporal::api::operatorservice::v1::{
    AddSearchAttributesRequest, ListSearchAttributesRequest,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeNamespaceRequest;

use crate::names::ATTRIBUTES;
use crate::options::{Address, Tls};

/// The wait between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("`{address}` is no address of a Temporal server: {reason}; write for example `http://127.0.0.1:7233`")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be read.
    #[error("the file `{path}` cannot be read: {reason}")]
    Certificate {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// Nobody answers.
    #[error(
        "the Temporal server at `{address}` does not answer: tried to connect for {} ms, {reason}; check that it runs, \
         that the address is right and that no firewall is between", .waited.as_millis()
    )]
    Away {
        /// The address.
        address: String,
        /// How long was tried.
        waited: Duration,
        /// What the system says.
        reason: String,
    },
    /// The namespace is not there.
    #[error(
        "the Temporal server at `{address}` has no namespace `{namespace}`; make it with \
         `temporal operator namespace create --namespace {namespace}` or choose another one"
    )]
    Namespace {
        /// The address.
        address: String,
        /// The namespace.
        namespace: String,
    },
    /// Search attributes are missing and could not be added.
    #[error(
        "the namespace `{namespace}` of the Temporal server at `{address}` lacks the search attributes {missing}, and they \
         could not be added: {reason}; add them with \
         `temporal operator search-attribute create --namespace {namespace} --name NAME --type Keyword`"
    )]
    Attributes {
        /// The address.
        address: String,
        /// The namespace.
        namespace: String,
        /// The missing ones.
        missing: String,
        /// What the server says.
        reason: String,
    },
    /// The server refuses.
    #[error("the Temporal server at `{address}` refuses: {reason}")]
    Refused {
        /// The address.
        address: String,
        /// What it says.
        reason: String,
    },
    /// A worker cannot begin.
    #[error("a worker of the queue `{queue}` cannot begin: {reason}")]
    Worker {
        /// Its queue.
        queue: String,
        /// What the library says.
        reason: String,
    },
}

/// A fact about a server, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is as it should be; `None` for something to think about.
    pub good: Option<bool>,
    /// For a person.
    pub text: String,
}

/// Connects within the address's time.
pub(crate) async fn connect(address: &Address) -> Result<Client, ConnectError> {
    let begun = std::time::Instant::now();
    let options = connection_options(address)?;
    let away = |reason: String| ConnectError::Away { address: address.url.clone(), waited: begun.elapsed(), reason };
    let connection = match tokio::time::timeout(address.connect_timeout, Connection::connect(options)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(away(reason_of(&error))),
        Err(_) => return Err(away("nobody answered".to_owned())),
    };
    Client::new(connection, ClientOptions::new(address.namespace.clone()).build())
        .map_err(|error| ConnectError::Refused { address: address.url.clone(), reason: error.to_string() })
}

/// The last cause says what happened; what is around it says where in the library.
fn reason_of(error: &ClientConnectError) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn connection_options(address: &Address) -> Result<ConnectionOptions, ConnectError> {
    let url = temporalio_client::Url::parse(&address.url)
        .map_err(|error| ConnectError::Address { address: address.url.clone(), reason: error.to_string() })?;
    let tls = match (&address.tls, url.scheme()) {
        (Some(tls), _) => Some(tls_options(tls)?),
        (None, "https") => Some(TlsOptions::default()),
        _ => None,
    };
    let local = url.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
    let options = ConnectionOptions::new(url)
        .identity(format!("compozy-host {} ({})", env!("CARGO_PKG_VERSION"), std::process::id()))
        .connect_timeout(address.connect_timeout)
        .maybe_tls_options(tls)
        .maybe_api_key(address.api_key.as_ref().map(|key| key.0.clone()));
    Ok(if local {
        // Compression costs more than it saves on one machine.
        options.dns_load_balancing(None).grpc_compression(GrpcCompression::None).build()
    } else {
        options.build()
    })
}

fn tls_options(tls: &Tls) -> Result<TlsOptions, ConnectError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path)
            .map_err(|error| ConnectError::Certificate { path: path.display().to_string(), reason: error.to_string() })
    };
    let client = match &tls.client {
        Some((certificate, key)) => {
            Some(ClientTlsOptions::builder().client_cert(read(certificate)?).client_private_key(read(key)?).build())
        }
        None => None,
    };
    Ok(TlsOptions::builder()
        .maybe_server_root_ca_cert(tls.ca_file.as_ref().map(read).transpose()?)
        .maybe_domain(tls.domain.clone())
        .maybe_client_tls_options(client)
        .build())
}

/// Makes sure that the namespace is there and has the search attributes; adds those that are missing. Answers the namespace's
/// id, which no other one has, on whichever server.
pub(crate) async fn make_fit(client: &Client, address: &Address) -> Result<String, ConnectError> {
    let namespace = describe_namespace(client, address).await?;
    let missing = missing_attributes(client, address).await?;
    if missing.is_empty() {
        return Ok(namespace.id);
    }
    let request = AddSearchAttributesRequest {
        namespace: address.namespace.clone(),
        search_attributes: missing
            .iter()
            .map(|name| ((*name).to_owned(), i32::from(IndexedValueType::Keyword)))
            .collect(),
    };
    let mut service = client.connection().operator_service();
    match service.add_search_attributes(request.into_request()).await {
        Ok(_) => Ok(namespace.id),
        // Another process was quicker.
        Err(status) if status.code() == Code::AlreadyExists => Ok(namespace.id),
        Err(status) => Err(ConnectError::Attributes {
            address: address.url.clone(),
            namespace: address.namespace.clone(),
            missing: missing.join(", "),
            reason: status.message().to_owned(),
        }),
    }
}

/// A namespace as its server describes it.
struct Namespace {
    id: String,
    /// The days that it keeps runs after their end; 0 when the server does not say.
    days: i64,
}

async fn describe_namespace(client: &Client, address: &Address) -> Result<Namespace, ConnectError> {
    let request = DescribeNamespaceRequest { namespace: address.namespace.clone(), ..Default::default() };
    match client.connection().workflow_service().describe_namespace(request.into_request()).await {
        Ok(response) => {
            let described = response.into_inner();
            let kept = described.config.and_then(|config| config.workflow_execution_retention_ttl);
            let id = described.namespace_info.map_or_else(|| address.namespace.clone(), |info| info.id);
            Ok(Namespace { id, days: kept.map_or(0, |kept| kept.seconds / 86_400) })
        }
        Err(status) if status.code() == Code::NotFound => {
            Err(ConnectError::Namespace { address: address.url.clone(), namespace: address.namespace.clone() })
        }
        Err(status) => Err(ConnectError::Refused { address: address.url.clone(), reason: status.message().to_owned() }),
    }
}

async fn missing_attributes(client: &Client, address: &Address) -> Result<Vec<&'static str>, ConnectError> {
    let request = ListSearchAttributesRequest { namespace: address.namespace.clone() };
    let answer = client.connection().operator_service().list_search_attributes(request.into_request()).await;
    let known = answer
        .map_err(|status| ConnectError::Refused { address: address.url.clone(), reason: status.message().to_owned() })?
        .into_inner()
        .custom_attributes;
    Ok(ATTRIBUTES.into_iter().filter(|name| !known.contains_key(*name)).collect())
}

/// Whether a server answers and has the namespace. One that does not answer is asked again for the address's time.
pub async fn reach(address: &Address) -> Result<(), ConnectError> {
    let begun = std::time::Instant::now();
    loop {
        match connect(address).await {
            Ok(client) => return describe_namespace(&client, address).await.map(drop),
            // It may be about to start as well.
            Err(ConnectError::Away { .. }) if begun.elapsed() < address.connect_timeout => {
                tokio::time::sleep(RECONNECT).await;
            }
            Err(ConnectError::Away { address, reason, .. }) => {
                return Err(ConnectError::Away { address, waited: begun.elapsed(), reason });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Looks at a server as `doctor` does: changes nothing.
pub async fn inspect(address: &Address) -> Vec<Finding> {
    let finding = |what, good, text: String| Finding { what, good, text };
    let begun = std::time::Instant::now();
    let client = match connect(address).await {
        Ok(client) => client,
        Err(error) => return vec![finding("temporal", Some(false), error.to_string())],
    };
    let text = format!("`{}` answers ({} ms)", address.url, begun.elapsed().as_millis());
    let mut findings = vec![finding("temporal", Some(true), text)];
    match describe_namespace(&client, address).await {
        Ok(Namespace { days, .. }) => {
            let text = format!("namespace `{}` keeps runs for {days} days after their end", address.namespace);
            findings.push(finding("temporal namespace", if days == 0 { None } else { Some(true) }, text));
        }
        Err(error) => {
            findings.push(finding("temporal namespace", Some(false), error.to_string()));
            return findings;
        }
    }
    findings.push(match missing_attributes(&client, address).await {
        Ok(missing) if missing.is_empty() => {
            finding("temporal search attributes", Some(true), format!("{} are there", ATTRIBUTES.join(", ")))
        }
        Ok(missing) => finding(
            "temporal search attributes",
            None,
            format!(
                "{} are missing; that is so before the first start of a host, which adds them if the server lets it",
                missing.join(", ")
            ),
        ),
        Err(error) => finding("temporal search attributes", Some(false), error.to_string()),
    });
    findings
}
