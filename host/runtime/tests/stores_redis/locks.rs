//! The role `locks`.

use std::collections::HashSet;
use std::time::Duration;

use compozy_runtime::stores::{Attempt, DumpedLock, Lease, Locks};

use crate::support::{Host, assert_invalid, assert_too_large, eventually, odd_keys};

const LONG: Duration = Duration::from_mins(1);

async fn take(locks: &dyn Locks, name: &str) -> u64 {
    match locks.acquire(name, LONG, "me").await.unwrap() {
        Attempt::Acquired(lease) => {
            assert!((50_000..=60_000).contains(&lease.remaining_ms));
            lease.token
        }
        Attempt::Held(left) => panic!("held for {left} ms"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_has_one_holder_until_it_is_given_back() {
    let host = Host::new().await;
    let locks = host.locks();
    for name in odd_keys() {
        assert!(locks.inspect(&name).await.unwrap().is_none());
        let token = take(&*locks, &name).await;
        assert!(matches!(locks.acquire(&name, LONG, "you").await.unwrap(), Attempt::Held(50_000..=60_000)));
        let state = locks.inspect(&name).await.unwrap().unwrap();
        assert_eq!((state.holder.as_str(), state.lease.token), ("me", token));
        assert!(
            !locks.release(&name, token + 1).await.unwrap() && !locks.refresh(&name, token + 1, LONG).await.unwrap()
        );
        assert!(locks.refresh(&name, token, Duration::from_mins(10)).await.unwrap());
        assert!(locks.inspect(&name).await.unwrap().unwrap().lease.remaining_ms > 60_000);
        assert!(locks.release(&name, token).await.unwrap());
        assert!(!locks.release(&name, token).await.unwrap() && !locks.refresh(&name, token, LONG).await.unwrap());
        assert!(locks.inspect(&name).await.unwrap().is_none());
        assert!(take(&*locks, &name).await > token, "tokens grow");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_expired_is_lost_for_good() {
    let host = Host::new().await;
    let locks = host.locks();
    let Attempt::Acquired(lease) = locks.acquire("a", Duration::from_millis(40), "").await.unwrap() else { panic!() };
    eventually("the end of the lease", async || locks.inspect("a").await.unwrap().is_none()).await;
    assert!(!locks.refresh("a", lease.token, LONG).await.unwrap() && !locks.release("a", lease.token).await.unwrap());
    let next = take(&*locks, "a").await;
    assert!(next > lease.token);
    assert!(!locks.release("a", lease.token).await.unwrap(), "the lease of somebody else is not given back");
    assert_eq!(locks.inspect("a").await.unwrap().unwrap().lease.token, next);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_try_at_once_one_gets_it() {
    let host = Host::new().await;
    let mut tokens = HashSet::new();
    for _ in 0..5 {
        let tries: Vec<_> = (0..32)
            .map(|_| {
                let locks = host.locks();
                tokio::spawn(async move { locks.acquire("a", LONG, "").await.unwrap() })
            })
            .collect();
        let mut leases = Vec::new();
        for attempt in tries {
            if let Attempt::Acquired(lease) = attempt.await.unwrap() {
                leases.push(lease.token);
            }
        }
        assert_eq!(leases.len(), 1);
        assert!(tokens.insert(leases[0]));
        host.locks().release("a", leases[0]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_go_on_after_a_load_and_stay_exact_beyond_2_to_the_53() {
    let host = Host::new().await;
    let locks = host.locks();
    let held = take(&*locks, "replaced").await;
    let great = (1 << 53) + 1;
    let lock = |name: &str, token| {
        let lease = Lease { token, remaining_ms: 30_000 };
        DumpedLock { name: name.into(), holder: "x;y".into(), lease }
    };
    locks.load(&[lock("replaced", 7), lock("other", great)], great).await.unwrap();
    let state = locks.inspect("other").await.unwrap().unwrap();
    assert_eq!((state.holder.as_str(), state.lease.token), ("x;y", great));
    assert!(!locks.release("replaced", held).await.unwrap() && locks.release("replaced", 7).await.unwrap());
    for name in odd_keys() {
        assert!(take(&*locks, &name).await > great, "whatever the name");
    }
    assert!(locks.release("other", great).await.unwrap());
    let token = take(&*locks, "other").await;
    assert!(!locks.release("other", token - 1).await.unwrap() && locks.release("other", token).await.unwrap());
    // A load that is repeated, or an older one, takes nothing back.
    locks.load(&[], 3).await.unwrap();
    assert!(take(&*locks, "other").await > token);
    assert_invalid(locks.load(&[], u64::MAX).await, "18446744073709551615");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let locks = host.locks();
    assert_invalid(locks.acquire("", LONG, "").await, "the name is empty");
    assert_invalid(locks.acquire("a", Duration::ZERO, "").await, "0 ms");
    assert_invalid(locks.refresh("a", 1, Duration::ZERO).await, "0 ms");
    assert_too_large(locks.inspect(&"n".repeat(513)).await, "key_bytes", 513, 512);
    assert_too_large(locks.acquire("a", LONG, &"h".repeat(513)).await, "key_bytes", 513, 512);
    assert!(matches!(locks.acquire("a", Duration::MAX, &"h".repeat(512)).await.unwrap(), Attempt::Acquired(_)));
    assert!(locks.health().await.unwrap().detail.starts_with("Redis 7."));
    assert_eq!(locks.sweep(1).await.unwrap(), 0);
}
