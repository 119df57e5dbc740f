//! How S3-compatible storage is reached.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Name;

use crate::OpenError;
use crate::http::Connector;
use crate::object::ObjectBlobs;
use crate::remote::Remote;

/// Tries of one request after the first.
const RETRIES: usize = 2;
/// After this long no request is tried again.
const RETRY_WITHIN: Duration = Duration::from_secs(10);
const FORMS: &str = "write `https://HOST[:PORT]`, or `http://HOST[:PORT]` together with `allow_http: true`";

/// Where the storage is and who we are there. `Debug` prints no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// `https://HOST[:PORT]`; `None` is Amazon's own in the region.
    pub endpoint: Option<String>,
    /// The bucket, which must exist.
    pub bucket: String,
    /// The region, as the storage calls it.
    pub region: String,
    /// What all names begin with; may be empty. Projects that share a bucket have different ones.
    pub prefix: String,
    /// The access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Whether an endpoint without TLS will do.
    pub allow_http: bool,
    /// A file of certificates (PEM) that sign the storage's; `None` trusts the public authorities.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("place", &self.place())
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"***")
            .finish_non_exhaustive()
    }
}

impl S3Options {
    /// A bucket at an endpoint, with the keys to it.
    pub fn new(
        endpoint: impl Into<String>,
        bucket: impl Into<String>,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
    ) -> Self {
        Self {
            endpoint: Some(endpoint.into()),
            bucket: bucket.into(),
            region: "us-east-1".to_owned(),
            prefix: String::new(),
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            allow_http: false,
            ca_file: None,
        }
    }

    /// For messages.
    pub fn place(&self) -> String {
        let at = self.endpoint.clone().unwrap_or_else(|| format!("s3 in {}", self.region));
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("/{}", self.prefix) };
        format!("{}/{}{prefix}", at.trim_end_matches('/'), self.bucket)
    }

    /// The blobs in it. Nothing is asked of the storage yet.
    ///
    /// # Errors
    /// The address, the bucket or the certificates are of no use.
    pub fn open(&self) -> Result<ObjectBlobs, OpenError> {
        let unusable = |reason: String| OpenError { place: self.place(), reason };
        if self.bucket.is_empty() || self.bucket.contains('/') {
            return Err(unusable(format!("`{}` is no name of a bucket", self.bucket)));
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(&self.access_key_id)
            .with_secret_access_key(&self.secret_access_key)
            .with_allow_http(self.allow_http)
            .with_http_connector(Connector::new(self.ca_file.as_deref()).map_err(unusable)?)
            .with_retry(RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_WITHIN, ..RetryConfig::default() });
        if let Some(endpoint) = &self.endpoint {
            let plain = endpoint.starts_with("http://");
            if !plain && !endpoint.starts_with("https://") {
                return Err(unusable(format!("`{endpoint}` is no endpoint; {FORMS}")));
            }
            if plain && !self.allow_http {
                return Err(unusable(format!("`{endpoint}` is without TLS; {FORMS}")));
            }
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| unusable(error.to_string()))?;
        let prefix = Name::parse(&self.prefix).map_err(|error| unusable(error.to_string()))?;
        let remote = Remote::new(Arc::new(store), self.place(), prefix).map_err(|error| unusable(error.to_string()))?;
        Ok(ObjectBlobs::remote(Arc::new(remote)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed_and_what_cannot_be_used_is_told() {
        let options = S3Options::new("http://h:9000/", "b", "key", "geheim");
        assert!(!format!("{options:?}").contains("geheim"), "{options:?}");
        assert_eq!(options.place(), "http://h:9000/b");
        let reason = |options: &S3Options| options.open().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(reason(&options).contains("without TLS"), "{}", reason(&options));
        assert!(reason(&S3Options { endpoint: Some("h:9000".to_owned()), ..options.clone() }).contains("no endpoint"));
        assert!(reason(&S3Options { bucket: "a/b".to_owned(), ..options.clone() }).contains("no name of a bucket"));
        let missing = S3Options { ca_file: Some("/nowhere.pem".into()), ..options.clone() };
        assert!(reason(&missing).contains("/nowhere.pem"), "{}", reason(&missing));
        assert_eq!(reason(&S3Options { allow_http: true, ..options }), "");
    }
}
