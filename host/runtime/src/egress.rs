//! Outgoing HTTP: only to granted origins, and never by a detour into the operator's own network.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request};

use crate::capabilities::Origin;
use crate::identity::Identity;

type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Driver), Error>;

/// The part of a guest's state that serves `wasi:http/outgoing-handler`.
#[derive(Debug)]
pub(crate) struct Egress {
    plugin: Arc<Identity>,
    /// Shared by all instances of the plugin.
    allowed: Arc<BTreeSet<Origin>>,
}

impl Egress {
    pub(crate) fn new(plugin: Arc<Identity>, allowed: Arc<BTreeSet<Origin>>) -> Self {
        Self { plugin, allowed }
    }

    fn origin(&self, uri: &http::Uri) -> Result<Origin, Error> {
        let tls = uri.scheme() != Some(&http::uri::Scheme::HTTP);
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let origin = Origin::from_authority(tls, authority.as_str()).ok_or(Error::HttpRequestUriInvalid)?;
        if self.allowed.contains(&origin) {
            return Ok(origin);
        }
        let (plugin, digest) = (self.plugin.name.as_str(), self.plugin.short_digest());
        tracing::warn!(plugin, digest, %origin, code = "HTTP_DENIED", "outgoing request refused: the origin is not both requested and granted");
        Err(Error::HttpRequestDenied)
    }
}

impl WasiHttpHooks for Egress {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driver,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let origin = self.origin(request.uri());
        Box::new(async move { send(origin?, request, options).await })
    }

    fn p2_error_from_connect(
        &mut self,
        error: &std::io::Error,
    ) -> wasmtime_wasi_http::p2::bindings::http::types::ErrorCode {
        tracing::debug!(%error, "an outgoing request of a plugin found no connection");
        wasmtime_wasi_http::p2::bindings::http::types::ErrorCode::ConnectionRefused
    }
}

async fn send(origin: Origin, mut request: http::Request<WasiBody>, options: Option<RequestOptions>) -> Sent {
    let address = resolve(&origin).await?;
    if !origin.tls {
        // Connect to the address that was checked: a second look-up could answer another one. (With TLS the
        // certificate proves the name, and the look-up may be repeated.) The Host header is set already.
        let uri = http::Uri::builder().scheme(http::uri::Scheme::HTTP).authority(address.to_string());
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        *request.uri_mut() = uri.path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    }
    let (response, driver) = default_send_request(request, options).await?;
    Ok((response.map(BodyExt::boxed_unsync), Box::new(driver) as Driver))
}

/// An address of the origin. Names may not lead to loopback, private or link-local addresses; an origin that is
/// such an address, or `localhost`, was granted as what it is.
async fn resolve(origin: &Origin) -> Result<SocketAddr, Error> {
    if let Ok(address) = origin.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, origin.port));
    }
    let unknown = |_| Error::DnsError { rcode: None, info_code: None };
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((origin.host.as_str(), origin.port)).await.map_err(unknown)?.collect();
    if addresses.is_empty() {
        return Err(Error::DestinationNotFound);
    }
    let local_by_name = origin.host == "localhost";
    if !local_by_name && addresses.iter().any(|address| !is_public(address.ip())) {
        tracing::warn!(%origin, code = "HTTP_DENIED", "outgoing request refused: the name leads to a private address");
        return Err(Error::DestinationIpProhibited);
    }
    Ok(addresses[0])
}

/// Whether an address lies on the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (18..20).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_multicast()
        || v4.is_documentation()
        || a == 0
        || a >= 240
        || shared
        || benchmark
        || protocol)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    let documentation = first == 0x2001 && v6.segments()[1] == 0x0db8;
    // Global unicast is 2000::/3 and nothing else.
    (first & 0xe000) == 0x2000 && !documentation
}

/// The IPv4 address inside of an IPv6 one: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(from(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known_in_every_disguise() {
        let private = "127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1 \
                       ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::10.0.0.1 2002:7f00:1:: 2001:db8::1";
        for text in private.split_whitespace() {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn only_the_very_origin_is_allowed() {
        let plugin = Identity { name: "p".into(), version: "0.1.0".into(), digest: "0".repeat(64) };
        let allowed = [Origin::parse("https://api.example:8443").unwrap()].into();
        let egress = Egress::new(Arc::new(plugin), Arc::new(allowed));
        assert!(egress.origin(&"https://API.example:8443/x?y".parse().unwrap()).is_ok());
        let refused = "https://api.example/ http://api.example:8443/ https://api.example.evil:8443/ https://evil.api.example:8443/ \
                       https://api.example:8443@evil/ https://user@api.example:8443/";
        for uri in refused.split_whitespace() {
            assert!(egress.origin(&uri.parse().unwrap()).is_err(), "{uri}");
        }
    }

    #[tokio::test]
    async fn a_local_name_is_reached_only_when_it_was_granted_as_such() {
        let origin = |text: &str| Origin::parse(text).unwrap();
        assert!(resolve(&origin("http://127.0.0.1:80")).await.unwrap().ip().is_loopback());
        assert!(resolve(&origin("http://localhost:80")).await.unwrap().ip().is_loopback());
        // Resolved by the system's own rules, without any network.
        let tricky = resolve(&origin("http://a.localhost:80")).await;
        assert!(matches!(
            tricky,
            Err(Error::DestinationIpProhibited | Error::DnsError { .. } | Error::DestinationNotFound)
        ));
    }
}
