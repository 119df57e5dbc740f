//! The rules of the role `locks`.

use crate::concurrent;
use crate::keys::{FAR_MS, nasty, wrong};
use crate::model::Moving;
use crate::model::locks::{Call, LocksModel, Which};
use crate::script::{Script, Step};
use crate::suite::{Run, World};

use super::Rule;

/// Looks at all of them.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    super::scripts::<LocksModel>(world, run, RULES).await;
    concurrent::locks::run(world, run).await;
    super::model::<LocksModel>(world, run).await;
}

const RULES: &[Rule<Call>] = &[
    ("missing-is-not-held", missing_is_not_held),
    ("names-are-told-apart", names_are_told_apart),
    ("key-limits-are-named", key_limits_are_named),
    ("holder-limit-is-named", holder_limit_is_named),
    ("page-limits-are-kept", page_limits_are_kept),
    ("ttl-zero-is-refused", ttl_zero_is_refused),
    ("ttl-expires-for-every-operation", ttl_expires_for_every_operation),
    ("ttl-of-any-length-is-accepted", ttl_of_any_length_is_accepted),
    ("held-is-told-with-the-time-left", held_is_told_with_the_time_left),
    ("refresh-renews-from-now", refresh_renews_from_now),
    ("refresh-after-loss-answers-false", refresh_after_loss_answers_false),
    ("release-frees-once", release_frees_once),
    ("release-of-another-lease-changes-nothing", release_of_another_lease_changes_nothing),
    ("token-grows-after-release", token_grows_after_release),
    ("token-grows-after-expiry", token_grows_after_expiry),
    ("token-grows-after-sweep", token_grows_after_sweep),
    ("token-grows-after-reopen", token_grows_after_reopen),
    ("token-grows-after-load", token_grows_after_load),
    ("sweep-takes-only-what-expired", sweep_takes_only_what_expired),
    ("load-keeps-leases", load_keeps_leases),
    ("load-keeps-ttl", load_keeps_ttl),
    ("load-may-be-repeated", load_may_be_repeated),
    ("dump-refuses-foreign-cursors", dump_refuses_foreign_cursors),
    ("reopen-keeps-what-was-acknowledged", reopen_keeps_what_was_acknowledged),
];

fn acquire(name: &str, ttl: u64) -> Call {
    Call::Acquire { name: name.to_owned(), ttl, holder: format!("who holds {}", name.len()) }
}

fn refresh(name: &str, ttl: u64) -> Call {
    Call::Refresh(name.to_owned(), Which::Last, ttl)
}

fn release(name: &str) -> Call {
    Call::Release(name.to_owned(), Which::Last)
}

fn inspect(name: &str) -> Call {
    Call::Inspect(name.to_owned())
}

fn missing_is_not_held(script: &mut Script<Call>) {
    script.calls([inspect("l"), refresh("l", FAR_MS), release("l"), inspect("l"), acquire("l", FAR_MS), inspect("l")]);
    script.call(Call::Acquire { name: "quiet".to_owned(), ttl: FAR_MS, holder: String::new() }).call(inspect("quiet"));
}

fn names_are_told_apart(script: &mut Script<Call>) {
    let names = nasty();
    script.calls(names.iter().map(|name| acquire(name, FAR_MS))).calls(names.iter().map(|name| inspect(name)));
    script.calls(names.iter().step_by(2).map(|name| release(name))).step(Step::Audit).call(Call::Dump(1_000));
}

fn key_limits_are_named(script: &mut Script<Call>) {
    for name in wrong() {
        script.calls([acquire(&name, 1_000), refresh(&name, 1_000), release(&name), inspect(&name)]);
    }
}

fn holder_limit_is_named(script: &mut Script<Call>) {
    for holder in ["h".repeat(513), "é".repeat(257), "h".repeat(512), "\0'\"%\n".to_owned()] {
        script.call(Call::Acquire { name: "l".to_owned(), ttl: FAR_MS, holder }).call(inspect("l")).call(release("l"));
    }
}

fn page_limits_are_kept(script: &mut Script<Call>) {
    script.call(acquire("l", FAR_MS));
    script.calls([0, 1_001, u32::MAX, 1_000, 1].into_iter().flat_map(|max| [Call::Dump(max), Call::Sweep(max)]));
}

fn ttl_zero_is_refused(script: &mut Script<Call>) {
    script.calls([acquire("l", 0), inspect("l"), acquire("l", FAR_MS), refresh("l", 0), inspect("l")]);
}

fn ttl_expires_for_every_operation(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls(["i", "f", "e", "a"].map(|name| acquire(name, ttl))).almost(ttl);
    script.calls(["i", "f", "e", "a"].map(inspect)).call(acquire("a", FAR_MS)).call(Call::Dump(10)).past(ttl);
    script.calls([
        Call::Dump(10),
        inspect("i"),
        refresh("f", FAR_MS),
        inspect("f"),
        release("e"),
        acquire("a", FAR_MS),
    ]);
    script.step(Step::Audit);
}

fn ttl_of_any_length_is_accepted(script: &mut Script<Call>) {
    for (name, ttl) in [("far", FAR_MS), ("farther", u64::MAX / 1_000), ("farthest", u64::MAX)] {
        let probe = Call::Release(name.to_owned(), Which::Unknown);
        script.calls([acquire(name, FAR_MS), refresh(name, ttl), probe, release(name)]);
    }
}

fn held_is_told_with_the_time_left(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([acquire("l", ttl), acquire("l", 90 * ttl)]).step(Step::Turn(ttl / 4)).call(acquire("l", 90 * ttl));
    script.calls([inspect("l"), refresh("l", 50 * ttl), acquire("l", 1), inspect("l")]);
}

fn refresh_renews_from_now(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(acquire("l", ttl)).step(Step::Turn(ttl / 4)).call(refresh("l", ttl)).call(inspect("l"));
    script.almost(ttl).call(inspect("l")).call(refresh("l", ttl)).almost(ttl).call(inspect("l"));
    script.past(ttl).call(inspect("l"));
    // It may also become shorter.
    script.calls([acquire("m", FAR_MS), refresh("m", ttl), inspect("m")]).almost(ttl).past(ttl).call(inspect("m"));
}

fn refresh_after_loss_answers_false(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([acquire("released", FAR_MS), release("released"), refresh("released", FAR_MS), inspect("released")]);
    script.call(acquire("expired", ttl)).call(acquire("taken", ttl)).almost(ttl).past(ttl);
    script.calls([refresh("expired", FAR_MS), inspect("expired"), acquire("expired", FAR_MS)]);
    script
        .call(acquire("taken", FAR_MS))
        .call(Call::Refresh("taken".to_owned(), Which::Former, 1))
        .call(inspect("taken"));
}

fn release_frees_once(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([acquire("l", FAR_MS), release("l"), release("l"), inspect("l"), acquire("l", ttl), release("l")]);
    script.call(acquire("m", ttl)).almost(ttl).past(ttl).call(release("m"));
}

fn release_of_another_lease_changes_nothing(script: &mut Script<Call>) {
    script.calls([acquire("l", FAR_MS), release("l"), acquire("l", FAR_MS)]);
    for which in [Which::Former, Which::Unknown] {
        let name = "l".to_owned();
        script.calls([Call::Release(name.clone(), which), Call::Refresh(name, which, 1), inspect("l")]);
    }
}

fn token_grows_after_release(script: &mut Script<Call>) {
    for _ in 0..10 {
        script.calls([acquire("l", FAR_MS), release("l"), acquire("m", FAR_MS), release("m")]);
    }
}

fn token_grows_after_expiry(script: &mut Script<Call>) {
    let ttl = script.ttl;
    for _ in 0..3 {
        script.calls([acquire("l", ttl), acquire("m", ttl)]).almost(ttl).past(ttl);
    }
}

fn token_grows_after_sweep(script: &mut Script<Call>) {
    let ttl = script.ttl;
    for _ in 0..2 {
        script.calls([acquire("l", FAR_MS), release("l"), acquire("l", ttl)]).almost(ttl).past(ttl);
        script.call(Call::Sweep(1_000));
    }
    script.call(acquire("l", ttl));
}

fn token_grows_after_reopen(script: &mut Script<Call>) {
    for _ in 0..3 {
        script.calls([acquire("l", FAR_MS), release("l"), acquire("l", FAR_MS), release("l")]).step(Step::Reopen);
    }
}

fn token_grows_after_load(script: &mut Script<Call>) {
    script.calls([acquire("gone", FAR_MS), release("gone"), acquire("gone", FAR_MS), release("gone")]);
    script.calls([acquire("held", FAR_MS), acquire("gone", FAR_MS), release("gone")]);
    script.step(Step::Move(Moving { max: 1, again: false }));
    script.calls([acquire("gone", FAR_MS), acquire("new", FAR_MS), release("held"), acquire("held", FAR_MS)]);
}

fn sweep_takes_only_what_expired(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls((0..20).map(|number| acquire(&format!("old{number}"), ttl))).call(acquire("later", FAR_MS));
    script.calls([acquire("renewed", ttl), refresh("renewed", FAR_MS), Call::Sweep(1_000)]).step(Step::Audit);
    script.almost(ttl).past(ttl).calls([Call::Sweep(1), Call::Sweep(1_000), Call::Sweep(10)]).step(Step::Audit);
}

fn load_keeps_leases(script: &mut Script<Call>) {
    let names = nasty();
    script.calls(names.iter().map(|name| acquire(name, FAR_MS)));
    for max in [1, 7, 1_000] {
        script.step(Step::Move(Moving { max, again: false })).step(Step::Audit);
    }
    script.calls(names.iter().flat_map(|name| [refresh(name, FAR_MS), release(name)])).step(Step::Audit);
}

fn load_keeps_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([acquire("l", ttl), acquire("later", FAR_MS)]).step(Step::Turn(ttl / 4));
    script.step(Step::Move(Moving { max: 1, again: false })).calls([inspect("l"), inspect("later")]);
    script.step(Step::Turn(ttl - ttl / 4)).calls([inspect("l"), release("l"), acquire("l", ttl), inspect("later")]);
}

fn load_may_be_repeated(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|name| acquire(name, FAR_MS))).call(release("a"));
    script.step(Step::Move(Moving { max: 5, again: true })).step(Step::Audit).call(acquire("a", FAR_MS));
}

fn dump_refuses_foreign_cursors(script: &mut Script<Call>) {
    script.call(acquire("l", FAR_MS));
    script.calls(["", "no cursor", "\0", "-1"].map(|cursor| Call::DumpFrom(cursor.to_owned())));
}

fn reopen_keeps_what_was_acknowledged(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|name| acquire(name, FAR_MS))).call(release("a")).call(refresh("ab", 2 * FAR_MS));
    script.step(Step::Reopen).step(Step::Audit).calls([refresh("ab", FAR_MS), release("ab"), acquire("ab", FAR_MS)]);
    script.step(Step::Reopen).step(Step::Audit);
}
