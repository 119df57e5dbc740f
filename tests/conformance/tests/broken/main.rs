//! The suite is tested by what it must find: a correct backend keeps every rule, and each of many broken ones breaks the rule that is
//! meant for its fault.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::sync::Arc;

use compozy_conformance::{ManualClock, Options, Suite, Summary};
use compozy_runtime::Role;

mod native;

use native::{Fault, Natives, VALUE_BYTES_MAX};

async fn run(fault: Fault, roles: &[Role], filter: Option<&str>, operations: usize) -> Summary {
    let clock = Arc::new(ManualClock::default());
    let options = Options {
        operations,
        clock: Some(clock.clone()),
        value_bytes_max: VALUE_BYTES_MAX,
        filter: filter.map(str::to_owned),
        ..Options::default()
    };
    let subject = Natives { clock, fault };
    Suite::new(options).run(&subject, roles, &mut |_: &_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correct_backend_keeps_every_rule() {
    let summary = run(Fault::None, ROLES, None, 10_000).await;
    for report in &summary.reports {
        println!("{report}");
    }
    assert_eq!(summary.failed(), 0);
    assert!(summary.passed() > 30, "{summary}");
}

const ROLES: &[Role] = &Role::STORES;

/// Each fault with the rule that is meant for it.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::TtlIgnored, "cache/ttl-expires-for-every-operation"),
    (Fault::TtlOneMsLate, "cache/ttl-expires-for-every-operation"),
    (Fault::ExistsCountsExpired, "cache/ttl-expires-for-every-operation"),
    (Fault::MissingIsEmpty, "cache/missing-is-not-empty"),
    (Fault::LikePrefix, "cache/prefix-is-literal"),
    (Fault::ScanSkips, "cache/scan-returns-every-key"),
    (Fault::ScanCursorIsACount, "cache/scan-is-stable-under-writes"),
    (Fault::CasDoesNotCompare, "cache/compare-and-swap-compares"),
    (Fault::VersionsBeginAgain, "cache/version-is-never-used-twice"),
    (Fault::IncrementWraps, "cache/increment-is-checked"),
    (Fault::IncrementTrims, "cache/increment-is-checked"),
    (Fault::IncrementTakesTtl, "cache/increment-keeps-ttl"),
    (Fault::LoadDropsTtl, "cache/load-keeps-ttl"),
    (Fault::LoadGivesNewVersions, "cache/load-keeps-values-and-versions"),
    (Fault::SetManyKeepsFirst, "cache/set-many-keeps-the-later-of-two"),
    (Fault::SetManyNotAtomic, "cache/set-many-writes-all-or-nothing"),
    (Fault::KeysWithoutCase, "cache/keys-are-told-apart"),
    (Fault::LimitOffByOne, "cache/value-limit-is-named"),
    (Fault::ForgetsOnReopen, "cache/reopen-keeps-what-was-acknowledged"),
    (Fault::SweepTakesAll, "cache/sweep-takes-only-what-expired"),
    (Fault::LostUpdate, "cache/concurrent-increments-lose-nothing"),
    (Fault::LostUpdate, "cache/concurrent-calls-are-linearizable"),
    (Fault::CasDoesNotCompare, "cache/concurrent-swaps-lose-nothing"),
    (Fault::SetManyNotAtomic, "cache/concurrent-set-many-is-one-step"),
    (Fault::TwoHolders, "locks/never-two-holders"),
    (Fault::TwoHolders, "locks/concurrent-calls-are-linearizable"),
    (Fault::TokenBeginsAgain, "locks/token-grows-after-release"),
    (Fault::TokenBeginsAgain, "locks/token-grows-after-sweep"),
    (Fault::RefreshRevives, "locks/refresh-after-loss-answers-false"),
    (Fault::RefreshAdds, "locks/refresh-renews-from-now"),
    (Fault::AnyTokenHolds, "locks/release-of-another-lease-changes-nothing"),
    (Fault::LoadForgetsTokens, "locks/token-grows-after-load"),
    (Fault::TtlOneMsLate, "locks/ttl-expires-for-every-operation"),
    (Fault::ForgetsOnReopen, "locks/token-grows-after-reopen"),
    (Fault::SequenceGap, "events/sequence-has-no-gap"),
    (Fault::AppendManyNotAtomic, "events/append-many-writes-all-or-nothing"),
    (Fault::AppendManyNotAtomic, "events/concurrent-appends-lose-nothing"),
    (Fault::SequenceTwice, "events/concurrent-appends-lose-nothing"),
    (Fault::ReadIncludesAfter, "events/read-after-answers-in-order"),
    (Fault::AgeOffByOne, "events/trim-keeps-events-by-age"),
    (Fault::TrimmedStreamForgotten, "events/sequence-goes-on-after-trim"),
    (Fault::LoadDoubles, "events/load-may-be-repeated"),
    (Fault::LoadForgetsSequence, "events/load-keeps-sequences-of-trimmed-streams"),
    (Fault::LikePrefix, "events/prefix-is-literal"),
    (Fault::ForgetsOnReopen, "events/reopen-keeps-what-was-acknowledged"),
    (Fault::GetLeavesTtl, "config-store/get-resets-ttl"),
    (Fault::PeekResetsTtl, "config-store/peek-leaves-ttl"),
    (Fault::NamespacesMeet, "config-store/namespaces-never-meet"),
    (Fault::LoadBeginsTtlAgain, "config-store/load-keeps-ttl"),
    (Fault::TtlIgnored, "config-store/ttl-expires-for-every-operation"),
    (Fault::MissingIsEmpty, "config-store/missing-is-not-empty"),
    (Fault::LikePrefix, "config-store/prefix-is-literal"),
    (Fault::ScanSkips, "config-store/list-returns-every-id"),
    (Fault::ScanCursorIsACount, "config-store/list-is-stable-under-writes"),
    (Fault::StaleRead, "config-store/concurrent-calls-are-linearizable"),
    (Fault::LostAppend, "memory-store/concurrent-appends-lose-nothing"),
    (Fault::TrimInTwoSteps, "memory-store/concurrent-trim-is-one-step"),
    (Fault::MarkLooksThenSets, "memory-store/concurrent-flush-marks-are-given-once"),
    (Fault::CountersDrift, "memory-store/counts-are-exact"),
    (Fault::TrimKeepsOneTooMany, "memory-store/trim-keeps-the-last-tokens"),
    (Fault::TtlOutlivesMessages, "memory-store/ttl-ends-with-the-last-message"),
    (Fault::TotalOfPage, "memory-store/page-answers-slice-and-total"),
    (Fault::ClearLeavesFlag, "memory-store/clear-takes-all"),
    (Fault::MarkRenewsFlag, "memory-store/flush-flag-holds-for-thirty-minutes"),
    (Fault::FlagOfAnHour, "memory-store/flush-flag-holds-for-thirty-minutes"),
    (Fault::DumpForgetsFlags, "memory-store/load-keeps-flush-flags"),
    (Fault::LoadDropsTtl, "memory-store/load-keeps-ttl"),
    (Fault::LoadDoubles, "memory-store/load-may-be-repeated"),
    (Fault::TtlIgnored, "memory-store/ttl-expires-for-every-operation"),
    (Fault::LikePrefix, "memory-store/prefix-is-literal"),
    (Fault::ScanSkips, "memory-store/list-returns-every-memory"),
    (Fault::ScanCursorIsACount, "memory-store/list-is-stable-under-writes"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_found_by_the_rule_that_is_meant_for_it() {
    let mut missed = Vec::new();
    for (fault, rule) in FAULTS {
        let role = Role::STORES.into_iter().find(|role| rule.starts_with(role.name())).unwrap();
        let summary = run(*fault, &[role], Some(rule), 500).await;
        assert_eq!(summary.reports.len(), 1, "{rule} is one rule");
        println!("{fault:?}\n{}", summary.reports[0]);
        if summary.failed() == 0 {
            missed.push(format!("{fault:?} is not found by {rule}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
