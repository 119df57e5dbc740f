//! Locks for those who wait and hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use compozy_runtime::stores::{LockError, LockManager, LockOptions, StoreError};

use super::Host;

const SECOND: Duration = Duration::from_secs(1);

fn options(ttl: Duration, wait: Duration) -> LockOptions {
    LockOptions { ttl, wait, holder: "test".to_owned() }
}

fn manager(host: &Host) -> Arc<LockManager> {
    host.runtime.stores().lock_manager.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_waiters_all_get_the_lock_one_at_a_time_and_in_order() {
    let host = Host::new().await;
    let manager = manager(&host);
    let first = manager.acquire("l", options(10 * SECOND, Duration::ZERO)).await.unwrap();
    let (inside, order) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
    let mut waiters = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (manager, inside, order) = (Arc::clone(&manager), Arc::clone(&inside), Arc::clone(&order));
        waiters.spawn(async move {
            let guard = manager.acquire("l", options(10 * SECOND, 60 * SECOND)).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
            order.lock().unwrap().push((number, guard.token()));
            tokio::time::sleep(Duration::from_millis(1)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            guard.release().await.unwrap();
        });
        // So that they stand in line in this order.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let token = first.token();
    first.release().await.unwrap();
    while let Some(done) = waiters.join_next().await {
        done.unwrap();
    }
    let order = order.lock().unwrap();
    assert!(order.windows(2).all(|pair| pair[0].0 < pair[1].0), "first come, first served: {order:?}");
    assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1) && order[0].1 > token, "tokens grow: {order:?}");
    assert_eq!(order.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_renewed_for_as_long_as_it_is_held() {
    let host = Host::new().await;
    let manager = manager(&host);
    let guard = manager.acquire("l", options(Duration::from_millis(300), Duration::ZERO)).await.unwrap();
    let other = manager.acquire("l", options(SECOND, Duration::from_millis(1_200))).await;
    let error = other.expect_err("held four times as long as its time to live");
    assert!(matches!(error, LockError::Timeout { .. }), "{error}");
    assert_eq!((error.code(), error.retryable()), ("LOCK_TIMEOUT", true));
    assert!(!guard.is_lost());
    guard.release().await.unwrap();
    manager.acquire("l", options(SECOND, Duration::ZERO)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_a_lock_is_told_and_its_work_ends() {
    let host = Host::new().await;
    let manager = manager(&host);
    let guard = manager.acquire("l", options(Duration::from_millis(600), Duration::ZERO)).await.unwrap();
    let token = guard.token();
    // The lease expires at once for the backend, and somebody else takes the lock.
    host.turn_clock(10 * SECOND);
    let other = manager.acquire("l", options(10 * SECOND, SECOND)).await.unwrap();
    assert!(other.token() > token);
    let endless = std::future::pending::<()>();
    let lost = tokio::time::timeout(5 * SECOND, guard.protect(endless)).await.expect("the work ends");
    assert!(matches!(lost, Err(LockError::Lost { token: lost, .. }) if lost == token), "{lost:?}");
    assert!(guard.is_lost());
    assert!(guard.protect(async { 1 }).await.is_err(), "each later call says so");
    let released = guard.release().await;
    assert_eq!(released.expect_err("it was not ours any more").code(), "LOCK_LOST");
    let state = host.runtime.stores().locks.clone().unwrap().inspect("l").await.unwrap().unwrap();
    assert_eq!(state.lease.token, other.token(), "the loser took nothing away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_does_not_wait_for_longer_than_it_said() {
    let host = Host::new().await;
    let manager = manager(&host);
    let _guard = manager.acquire("l", options(60 * SECOND, Duration::ZERO)).await.unwrap();
    let begun = Instant::now();
    // The second one waits behind the first, which has the place in front.
    let (first, second) = tokio::join!(
        manager.acquire("l", options(SECOND, Duration::from_millis(200))),
        manager.acquire("l", options(SECOND, Duration::from_millis(100))),
    );
    assert!(matches!((&first, &second), (Err(LockError::Timeout { .. }), Err(LockError::Timeout { .. }))));
    assert!(begun.elapsed() < 5 * SECOND);
    let endless = manager.acquire("l", options(SECOND, Duration::from_hours(25))).await;
    assert!(matches!(endless, Err(LockError::Store(StoreError::InvalidArgument(_)))), "{endless:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_dropped_and_a_waiter_that_goes_away_leave_the_lock_free() {
    let host = Host::new().await;
    let manager = manager(&host);
    let guard = manager.acquire("l", options(60 * SECOND, Duration::ZERO)).await.unwrap();
    let waiter = tokio::spawn({
        let manager = Arc::clone(&manager);
        async move { manager.acquire("l", options(60 * SECOND, 60 * SECOND)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    waiter.abort();
    drop(guard);
    manager.acquire("l", options(SECOND, 10 * SECOND)).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_lock_is_taken_over_without_news() {
    let host = Host::new().await;
    let locks = host.runtime.stores().locks.clone().unwrap();
    // By the bare backend: nobody renews it, and nobody says when it ends.
    locks.acquire("l", Duration::from_millis(300), "somebody").await.unwrap();
    let guard = manager(&host).acquire("l", options(SECOND, 10 * SECOND)).await.unwrap();
    guard.release().await.unwrap();
}
