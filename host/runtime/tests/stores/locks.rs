//! The role `locks`.

use std::time::Duration;

use compozy_runtime::stores::{Attempt, DumpedLock, Lease, Locks};

use crate::support::{Host, assert_invalid, assert_too_large, odd_keys};

const SECOND: Duration = Duration::from_secs(1);

async fn take(locks: &dyn Locks, name: &str, ttl: Duration) -> u64 {
    match locks.acquire(name, ttl, "test").await.unwrap() {
        Attempt::Acquired(lease) => {
            assert_eq!(u128::from(lease.remaining_ms), ttl.as_millis());
            lease.token
        }
        Attempt::Held(left) => panic!("`{name}` is held for {left} ms"),
    }
}

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_given_back() {
    let host = Host::new().await;
    let locks = host.locks();
    assert!(locks.inspect("a").await.unwrap().is_none());
    let token = take(&*locks, "a", SECOND).await;
    host.turn_clock(400);
    assert!(matches!(locks.acquire("a", SECOND, "other").await.unwrap(), Attempt::Held(600)));
    let state = locks.inspect("a").await.unwrap().unwrap();
    assert_eq!((state.holder.as_str(), state.lease.token, state.lease.remaining_ms), ("test", token, 600));
    take(&*locks, "b", SECOND).await;
    assert!(locks.refresh("a", token, 2 * SECOND).await.unwrap());
    assert!(matches!(locks.acquire("a", SECOND, "other").await.unwrap(), Attempt::Held(2_000)));
    assert!(locks.release("a", token).await.unwrap());
    assert!(locks.inspect("a").await.unwrap().is_none());
    for _ in 0..2 {
        assert!(!locks.release("a", token).await.unwrap());
        assert!(!locks.refresh("a", token, SECOND).await.unwrap());
    }
}

#[tokio::test]
async fn who_lost_a_lease_is_told_so() {
    let host = Host::new().await;
    let locks = host.locks();
    let expired = take(&*locks, "a", SECOND).await;
    host.turn_clock(1_000);
    assert!(locks.inspect("a").await.unwrap().is_none(), "expired, and taken by nobody");
    assert!(!locks.refresh("a", expired, SECOND).await.unwrap(), "a lease that expired does not come back");
    assert!(!locks.release("a", expired).await.unwrap());

    let first = take(&*locks, "a", SECOND).await;
    host.turn_clock(1_000);
    let second = take(&*locks, "a", SECOND).await;
    for stale in [first, 0, u64::MAX] {
        assert!(!locks.refresh("a", stale, SECOND).await.unwrap());
        assert!(!locks.release("a", stale).await.unwrap());
    }
    assert_eq!(locks.inspect("a").await.unwrap().unwrap().lease.token, second, "a stale release frees nothing");
}

#[tokio::test]
async fn tokens_grow_for_ever() {
    let mut host = Host::new().await;
    let mut last = 0;
    for round in 0..4 {
        let locks = host.locks();
        for name in ["a", "b", "a", "c"] {
            let token = take(&*locks, name, SECOND).await;
            assert!(token > last, "round {round}, `{name}`: {token} after {last}");
            last = token;
            match round {
                0 => assert!(locks.release(name, token).await.unwrap()),
                1 => host.turn_clock(1_000),
                _ => {
                    host.turn_clock(1_000);
                    assert!(locks.sweep(1_000).await.unwrap() > 0);
                }
            }
        }
        let rows: u32 = host.database().query_row("SELECT count(*) FROM lock", [], |row| row.get(0)).unwrap();
        assert!(rows <= 3, "a lock that is over leaves no row behind");
        drop(locks);
        host = host.reopened().await;
    }
}

#[tokio::test]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let locks = host.locks();
    assert_invalid(locks.acquire("", SECOND, "").await, "name is empty");
    assert_invalid(locks.acquire("a", Duration::ZERO, "").await, "at least 1 ms");
    assert_too_large(locks.acquire(&"a".repeat(513), SECOND, "").await, "key_bytes", 513, 512);
    assert_too_large(locks.acquire("a", SECOND, &"h".repeat(513)).await, "key_bytes", 513, 512);
    assert_invalid(locks.refresh("a", 1, Duration::ZERO).await, "at least 1 ms");
    assert_invalid(locks.release("", 1).await, "name is empty");
    for max in [0, 1_001] {
        assert_invalid(locks.dump(None, max).await, "1 to 1000");
        assert_invalid(locks.sweep(max).await, "1 to 1000");
    }
    let lock = |token, remaining_ms| {
        let lease = Lease { token, remaining_ms };
        [DumpedLock { name: "a".to_owned(), holder: String::new(), lease }]
    };
    assert_invalid(locks.load(&lock(u64::MAX, 1), 1).await, "token");
    assert_invalid(locks.load(&[], u64::MAX).await, "token");
    assert_invalid(locks.load(&lock(1, 0), 1).await, "at least 1 ms");
    for name in odd_keys() {
        take(&*locks, &name, SECOND).await;
        assert!(matches!(locks.acquire(&name, SECOND, &name).await.unwrap(), Attempt::Held(_)), "{name:?}");
    }
}

#[tokio::test]
async fn a_dump_moves_the_locks_that_are_held_and_the_greatest_token() {
    let (from, to) = (Host::new().await, Host::new().await);
    let locks = from.locks();
    let mut tokens = Vec::new();
    for number in 0..25 {
        tokens.push(take(&*locks, &format!("l{number:02}"), SECOND * (1 + number % 2)).await);
    }
    let released = take(&*locks, "released", SECOND).await;
    assert!(locks.release("released", released).await.unwrap());
    from.turn_clock(400);
    let (mut cursor, mut count) = (None, 0);
    loop {
        let page = locks.dump(cursor.as_deref(), 10).await.unwrap();
        assert!(page.greatest_token >= released);
        count += page.locks.len();
        for _ in 0..2 {
            to.locks().load(&page.locks, page.greatest_token).await.unwrap();
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(count, 25);
    assert!(take(&*to.locks(), "other", SECOND).await > released, "greater than what a name had elsewhere");
    for (number, token) in tokens.iter().enumerate() {
        let name = format!("l{number:02}");
        let state = to.locks().inspect(&name).await.unwrap().unwrap();
        assert_eq!((state.holder.as_str(), state.lease.token), ("test", *token));
        assert_eq!(state.lease.remaining_ms, if number % 2 == 0 { 600 } else { 1_600 });
        assert!(to.locks().release(&name, *token).await.unwrap(), "the holder goes on with its token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_try_at_once_get_it_one_after_the_other() {
    let host = Host::new().await;
    let (mut tasks, inside) = (tokio::task::JoinSet::new(), std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0)));
    for _ in 0..8 {
        let (locks, inside) = (host.locks(), std::sync::Arc::clone(&inside));
        tasks.spawn(async move {
            let mut tokens = Vec::new();
            while tokens.len() < 10 {
                let Attempt::Acquired(lease) = locks.acquire("a", SECOND, "t").await.unwrap() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two holders");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                assert!(locks.release("a", lease.token).await.unwrap());
                tokens.push(lease.token);
            }
            tokens
        });
    }
    let mut tokens: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 80, "a token is given once");
}
