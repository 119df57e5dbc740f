//! How often one client may ask: counted in this process, or by whoever shares the counting with other hosts.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use axum::middleware::Next;
use axum::response::IntoResponse;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter as Governor};

use crate::limits::RATED_CLIENTS_MAX;
use crate::problem::{Code, Problem};

/// How often one client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// So many requests ...
    pub requests: NonZeroU32,
    /// ... in this time, on and on.
    pub per: Duration,
    /// So many of them may come at once; `None` is as many as `requests`.
    pub burst: Option<NonZeroU32>,
}

impl RateLimit {
    /// So many requests in this time.
    pub fn new(requests: NonZeroU32, per: Duration) -> Self {
        Self { requests, per, burst: None }
    }

    /// How many may come at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst.unwrap_or(self.requests)
    }

    /// The time in which a client may ask `burst` times, on and on.
    pub fn window(&self) -> Duration {
        (self.per.saturating_mul(self.burst().get()) / self.requests.get()).max(Duration::from_millis(1))
    }
}

impl std::fmt::Display for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let requests = self.requests;
        write!(f, "{requests} requests per {} ms", self.per.as_millis())?;
        match self.burst {
            Some(burst) => write!(f, ", {burst} of them at once"),
            None => Ok(()),
        }
    }
}

/// Whether a request may be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Admitted,
    /// Not before this time has gone.
    Limited {
        /// Until a place is free.
        retry_after: Duration,
    },
}

/// Counts requests of clients.
#[async_trait]
pub trait RateLimiter: Send + Sync + 'static {
    /// What it enforces.
    fn limit(&self) -> RateLimit;
    /// Counts one request of a client. Whoever cannot count admits.
    async fn admit(&self, client: &str) -> Verdict;
}

type Keyed = Governor<String, HashMapStateStore<String>, DefaultClock>;

/// Counts in this process.
pub struct LocalRates {
    limit: RateLimit,
    quota: Quota,
    clients_max: usize,
    keyed: RwLock<Arc<Keyed>>,
}

impl std::fmt::Debug for LocalRates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalRates").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl LocalRates {
    /// Enforces this.
    pub fn new(limit: RateLimit) -> Self {
        Self::remembering(limit, RATED_CLIENTS_MAX)
    }

    fn remembering(limit: RateLimit, clients_max: usize) -> Self {
        let each = (limit.per / limit.requests.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(each).expect("longer than nothing").allow_burst(limit.burst());
        Self { limit, quota, clients_max, keyed: RwLock::new(Arc::new(Governor::hashmap(quota))) }
    }

    fn keyed(&self) -> Arc<Keyed> {
        let keyed = Arc::clone(&self.keyed.read().unwrap_or_else(PoisonError::into_inner));
        if keyed.len() < self.clients_max {
            return keyed;
        }
        // Those that have all their places again need not be remembered.
        keyed.retain_recent();
        if keyed.len() < self.clients_max {
            return keyed;
        }
        // Too many at once: rather forget them all than grow without end.
        let fresh = Arc::new(Governor::hashmap(self.quota));
        *self.keyed.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        fresh
    }
}

#[async_trait]
impl RateLimiter for LocalRates {
    fn limit(&self) -> RateLimit {
        self.limit
    }

    async fn admit(&self, client: &str) -> Verdict {
        let keyed = self.keyed();
        match keyed.check_key(&client.to_owned()) {
            Ok(()) => Verdict::Admitted,
            Err(not_until) => Verdict::Limited { retry_after: not_until.wait_time_from(DefaultClock::default().now()) },
        }
    }
}

/// Where a request comes from; the server puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// Who counts as one client: an address, or the network of an IPv6 address, which one machine has for itself.
    fn client(self) -> String {
        match self.0.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}

/// Refuses what is too much.
pub(crate) async fn limit_rate(
    State(rates): State<Option<Arc<dyn RateLimiter>>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let address = request.extensions().get::<ClientAddress>().copied();
    // A request that came over no connection came from this process.
    let (Some(rates), Some(address)) = (rates, address) else { return next.run(request).await };
    let client = address.client();
    match rates.admit(&client).await {
        Verdict::Admitted => next.run(request).await,
        Verdict::Limited { retry_after } => {
            let limit = rates.limit();
            let detail = format!(
                "{client} may send {limit} (limit `rate_limit`) and has used them up; try again in {} ms",
                retry_after.as_millis()
            );
            let per_ms = u64::try_from(limit.per.as_millis()).unwrap_or(u64::MAX);
            Problem::new(Code::RateLimited, detail)
                .retry_after(retry_after)
                .with("limit", "rate_limit")
                .with("allowed", limit.requests.get())
                .with("per_ms", per_ms)
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32, per: Duration) -> RateLimit {
        RateLimit::new(NonZeroU32::new(requests).expect("not zero"), per)
    }

    #[tokio::test]
    async fn each_client_has_its_own_places() {
        let rates = LocalRates::new(limit(3, Duration::from_hours(1)));
        for _ in 0..3 {
            assert_eq!(rates.admit("one").await, Verdict::Admitted);
        }
        let Verdict::Limited { retry_after } = rates.admit("one").await else { panic!("a fourth one") };
        let minutes = retry_after.as_secs() / 60;
        assert!((19..=20).contains(&minutes), "a place is free after 20 min: {retry_after:?}");
        assert_eq!(rates.admit("other").await, Verdict::Admitted);
    }

    #[tokio::test]
    async fn a_burst_is_smaller_than_the_rate() {
        let burst = NonZeroU32::new(2);
        let rates = LocalRates::new(RateLimit { burst, ..limit(1_000, Duration::from_hours(10_000)) });
        let verdicts = [rates.admit("a").await, rates.admit("a").await, rates.admit("a").await];
        assert_eq!(verdicts.map(|verdict| verdict == Verdict::Admitted), [true, true, false]);
        assert_eq!(RateLimit { burst, ..limit(10, Duration::from_mins(1)) }.window(), Duration::from_secs(12));
    }

    #[tokio::test]
    async fn the_clients_that_are_remembered_are_bounded() {
        let rates = LocalRates::remembering(limit(1, Duration::from_hours(1)), 10);
        for client in 0..995 {
            rates.admit(&client.to_string()).await;
            assert!(rates.keyed().len() <= 10);
        }
        assert_ne!(rates.admit("994").await, Verdict::Admitted, "the last ones are remembered");
    }

    #[test]
    fn one_machine_is_one_client() {
        for (address, client) in
            [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64")]
        {
            assert_eq!(ClientAddress(address.parse().expect("an address")).client(), client);
        }
    }
}
