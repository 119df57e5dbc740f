//! The rules of the role `cache`.

use crate::compare::Blob;
use crate::concurrent;
use crate::keys::{FAR_MS, KIB, filled, nasty, wrong};
use crate::model::Moving;
use crate::model::cache::{CacheModel, Call, When};
use crate::script::{Script, Step};
use crate::suite::{Run, World};

use super::Rule;

/// Looks at all of them.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    super::scripts::<CacheModel>(world, run, RULES).await;
    concurrent::cache::run(world, run).await;
    super::model::<CacheModel>(world, run).await;
}

const RULES: &[Rule<Call>] = &[
    ("missing-is-not-empty", missing_is_not_empty),
    ("keys-are-told-apart", keys_are_told_apart),
    ("prefix-is-literal", prefix_is_literal),
    ("key-limits-are-named", key_limits_are_named),
    ("value-of-each-size-comes-back", value_of_each_size_comes_back),
    ("value-limit-is-named", value_limit_is_named),
    ("batch-limits-are-named", batch_limits_are_named),
    ("page-limits-are-kept", page_limits_are_kept),
    ("ttl-zero-is-refused", ttl_zero_is_refused),
    ("ttl-expires-for-every-operation", ttl_expires_for_every_operation),
    ("ttl-is-replaced-by-every-write", ttl_is_replaced_by_every_write),
    ("ttl-of-any-length-is-accepted", ttl_of_any_length_is_accepted),
    ("expire-changes-only-the-ttl", expire_changes_only_the_ttl),
    ("expired-is-absent-for-conditions", expired_is_absent_for_conditions),
    ("compare-and-swap-compares", compare_and_swap_compares),
    ("if-absent-writes-once", if_absent_writes_once),
    ("version-is-never-used-twice", version_is_never_used_twice),
    ("set-many-keeps-the-later-of-two", set_many_keeps_the_later_of_two),
    ("set-many-writes-all-or-nothing", set_many_writes_all_or_nothing),
    ("get-many-answers-in-order", get_many_answers_in_order),
    ("increment-is-checked", increment_is_checked),
    ("increment-keeps-ttl", increment_keeps_ttl),
    ("scan-returns-every-key", scan_returns_every_key),
    ("scan-is-stable-under-writes", scan_is_stable_under_writes),
    ("scan-refuses-foreign-cursors", scan_refuses_foreign_cursors),
    ("sweep-takes-only-what-expired", sweep_takes_only_what_expired),
    ("load-keeps-values-and-versions", load_keeps_values_and_versions),
    ("load-keeps-ttl", load_keeps_ttl),
    ("load-may-be-repeated", load_may_be_repeated),
    ("reopen-keeps-what-was-acknowledged", reopen_keeps_what_was_acknowledged),
];

fn key(name: &str) -> String {
    name.to_owned()
}

fn set(name: &str, value: &str, ttl: Option<u64>) -> Call {
    set_when(name, value, ttl, When::Always)
}

fn set_when(name: &str, value: &str, ttl: Option<u64>, when: When) -> Call {
    Call::Set { key: key(name), value: value.into(), ttl, when }
}

fn get(name: &str) -> Call {
    Call::Get(key(name))
}

/// Every operation that looks at a key.
fn looks(name: &str) -> [Call; 5] {
    let key = key(name);
    [
        Call::Get(key.clone()),
        Call::Exists(key.clone()),
        Call::Ttl(key.clone()),
        Call::GetMany(vec![key.clone()]),
        Call::Scan(key, 10),
    ]
}

fn missing_is_not_empty(script: &mut Script<Call>) {
    script.calls(looks("k")).call(Call::Delete(key("k"))).call(Call::Expire(key("k"), None));
    script.call(set("k", "", None)).calls(looks("k"));
    script.call(Call::Delete(key("k"))).call(Call::Delete(key("k"))).calls(looks("k"));
    // An empty value is no number, a missing one counts as 0.
    script.call(set("n", "", None)).call(Call::Increment(key("n"), 1, None));
    script.call(Call::Delete(key("n"))).call(Call::Increment(key("n"), 1, None));
}

fn keys_are_told_apart(script: &mut Script<Call>) {
    let keys = nasty();
    script.calls(keys.iter().map(|key| set(key, key, None)));
    script.calls(keys.iter().flat_map(|key| [get(key), Call::GetMany(vec![key.clone()])]));
    script.call(Call::GetMany(keys.clone())).call(Call::Scan(String::new(), 1_000)).call(Call::Scan(String::new(), 1));
    script.calls(keys.iter().step_by(2).map(|key| Call::Delete(key.clone()))).step(Step::Audit);
}

fn prefix_is_literal(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|key| set(key, "v", None)));
    let wildcards = ["%", "_", "*", "?", "[", "[a-z]", "\\", ".", "^a", "{", "a%b", "a_b", "a.b"].map(str::to_owned);
    script.calls(wildcards.into_iter().chain(nasty()).map(|prefix| Call::Scan(prefix, 1_000)));
}

fn key_limits_are_named(script: &mut Script<Call>) {
    for key in wrong() {
        script.calls([
            Call::Get(key.clone()),
            Call::GetMany(vec![String::from("a"), key.clone()]),
            set(&key, "v", None),
            Call::SetMany { entries: vec![(String::from("a"), "v".into()), (key.clone(), "v".into())], ttl: None },
            Call::Delete(key.clone()),
            Call::Exists(key.clone()),
            Call::Expire(key.clone(), None),
            Call::Ttl(key.clone()),
            Call::Increment(key.clone(), 1, None),
        ]);
    }
    script.step(Step::Audit);
}

fn value_of_each_size_comes_back(script: &mut Script<Call>) {
    let sizes = [0, 1, 64 * KIB, KIB * KIB, script.value_bytes_max];
    for (seed, bytes) in sizes.into_iter().enumerate() {
        let value = filled(bytes, seed as u64);
        script.call(Call::Set { key: key("k"), value, ttl: None, when: When::Always }).call(get("k"));
    }
}

fn value_limit_is_named(script: &mut Script<Call>) {
    let value = filled(script.value_bytes_max + 1, 1);
    script.call(set("k", "before", None));
    script.call(Call::Set { key: key("k"), value: value.clone(), ttl: None, when: When::Always });
    script.call(Call::SetMany { entries: vec![(key("k"), value)], ttl: None }).call(get("k"));
}

fn numbered(count: usize) -> Vec<(String, Blob)> {
    (0..count).map(|number| (format!("k{number}"), Blob::from(number.to_string().as_str()))).collect()
}

fn batch_limits_are_named(script: &mut Script<Call>) {
    let keys = |count| numbered(count).into_iter().map(|(key, _)| key).collect();
    script.call(Call::SetMany { entries: numbered(1_001), ttl: None }).call(get("k0"));
    script.call(Call::SetMany { entries: Vec::new(), ttl: None });
    script.call(Call::SetMany { entries: numbered(1_000), ttl: None });
    script.calls([Call::GetMany(keys(1_001)), Call::GetMany(keys(1_000)), Call::GetMany(Vec::new())]);
}

fn page_limits_are_kept(script: &mut Script<Call>) {
    script.call(set("k", "v", None));
    for max in [0, 1_001, u32::MAX, 1_000, 1] {
        script.calls([Call::Scan(String::new(), max), Call::Dump(max), Call::Sweep(max)]);
    }
}

fn ttl_zero_is_refused(script: &mut Script<Call>) {
    script.call(set("k", "v", None));
    script.calls([set("k", "w", Some(0)), set("m", "w", Some(0)), Call::Expire(key("k"), Some(0))]);
    script.calls([Call::Expire(key("m"), Some(0)), Call::Increment(key("m"), 1, Some(0))]);
    script.call(Call::SetMany { entries: vec![(key("m"), "w".into())], ttl: Some(0) }).step(Step::Audit);
}

fn ttl_expires_for_every_operation(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(set("kept", "v", None)).call(set("later", "v", Some(3 * ttl)));
    script.call(set("k", "v", Some(ttl))).call(set("del", "v", Some(ttl))).call(set("exp", "v", Some(ttl)));
    script.call(set("n", "41", Some(ttl))).call(Call::Increment(key("made"), 1, Some(ttl)));
    script.call(Call::SetMany { entries: vec![(key("many"), "v".into())], ttl: Some(ttl) });
    script.almost(ttl).calls(looks("k")).call(Call::Exists(key("made"))).call(Call::Exists(key("many")));
    script.past(ttl).calls(looks("k")).call(Call::Exists(key("made"))).call(Call::Exists(key("many")));
    script.calls([Call::Delete(key("del")), Call::Expire(key("exp"), None), Call::Increment(key("n"), 1, None)]);
    script.calls([Call::Scan(String::new(), 100), Call::Dump(100), Call::Exists(key("kept"))]).step(Step::Audit);
}

fn ttl_is_replaced_by_every_write(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(set("k", "v", Some(ttl))).call(set("k", "v", None)).call(Call::Ttl(key("k")));
    script.call(set("m", "v", None)).call(set("m", "v", Some(ttl))).call(Call::Ttl(key("m")));
    script.call(set("o", "v", Some(ttl)));
    script.call(Call::SetMany { entries: vec![(key("o"), "w".into())], ttl: None }).call(Call::Ttl(key("o")));
    // A write that did not take place changes nothing.
    script.call(set_when("m", "v", None, When::IfAbsent)).call(Call::Ttl(key("m")));
    script.almost(ttl).past(ttl).calls([get("k"), get("m"), get("o")]);
}

fn ttl_of_any_length_is_accepted(script: &mut Script<Call>) {
    for (name, ttl) in [("far", FAR_MS), ("farther", u64::MAX / 1_000), ("farthest", u64::MAX)] {
        script.calls([set(name, "1", Some(ttl)), get(name), Call::Exists(key(name))]);
        script.calls([Call::Expire(key(name), Some(ttl)), Call::Increment(format!("{name}-n"), 1, Some(ttl))]);
        script.calls([get(name), get(&format!("{name}-n"))]);
    }
    script.call(Call::Ttl(key("far")));
}

fn expire_changes_only_the_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(set("k", "v", None)).call(Call::Expire(key("k"), Some(ttl))).call(Call::Ttl(key("k"))).call(get("k"));
    script.call(set_when("k", "w", Some(ttl), When::IfCurrent)).call(Call::Persist(key("k"))).call(Call::Ttl(key("k")));
    script.almost(ttl).past(ttl).call(get("k"));
    script.call(Call::Expire(key("missing"), Some(ttl))).call(Call::Persist(key("missing")));
}

fn expired_is_absent_for_conditions(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls(["a", "b"].map(|name| set(name, "old", Some(ttl)))).almost(ttl);
    script.calls(["a", "b"].map(|name| set_when(name, "early", Some(ttl), When::IfAbsent)));
    script.past(ttl).call(set_when("a", "new", None, When::IfCurrent)).call(get("a"));
    script.call(set_when("b", "new", None, When::IfAbsent)).calls([get("b"), Call::Ttl(key("b"))]);
}

fn compare_and_swap_compares(script: &mut Script<Call>) {
    script.call(set_when("k", "x", None, When::IfStale)).call(get("k"));
    script.call(set("k", "1", None)).call(set("k", "2", None));
    script.call(set_when("k", "x", None, When::IfStale)).call(get("k"));
    script.call(set_when("k", "3", None, When::IfCurrent)).call(get("k"));
    script.call(set_when("k", "x", None, When::IfStale)).call(get("k"));
    // The same value again is another version; and a key that came back has no version of before.
    script.call(set("k", "3", None)).call(set_when("k", "x", None, When::IfStale));
    script.call(Call::Delete(key("k"))).call(set_when("k", "x", None, When::IfCurrent)).call(get("k"));
    script.call(set("k", "4", None)).call(set_when("k", "x", None, When::IfStale)).call(get("k"));
    script.call(Call::Increment(key("k"), 1, None)).call(set_when("k", "x", None, When::IfStale)).call(get("k"));
}

fn if_absent_writes_once(script: &mut Script<Call>) {
    for name in ["k", ""].map(|end| format!("a{end}")) {
        script.calls(["1", "2"].map(|value| set_when(&name, value, None, When::IfAbsent))).call(get(&name));
        script.call(Call::Delete(name.clone())).call(set_when(&name, "3", None, When::IfAbsent)).call(get(&name));
    }
}

fn version_is_never_used_twice(script: &mut Script<Call>) {
    for round in 0..20 {
        script.calls([set("k", "1", None), get("k"), Call::Increment(key("k"), 1, None), get("k")]);
        script.call(Call::SetMany { entries: vec![(key("k"), "1".into())], ttl: None }).call(get("k"));
        if round % 3 == 0 {
            script.call(Call::Delete(key("k"))).call(set_when("k", "1", None, When::IfAbsent)).call(get("k"));
        }
    }
}

fn set_many_keeps_the_later_of_two(script: &mut Script<Call>) {
    let entries = [("a", "1"), ("b", "1"), ("a", "2"), ("b", ""), ("a", "3")];
    let entries = entries.map(|(name, value)| (key(name), value.into())).to_vec();
    script.call(Call::SetMany { entries, ttl: None }).calls([get("a"), get("b")]);
}

fn set_many_writes_all_or_nothing(script: &mut Script<Call>) {
    for bad in wrong() {
        let mut entries = numbered(5);
        entries.insert(3, (bad, "v".into()));
        script.call(Call::SetMany { entries, ttl: None }).call(Call::Scan(String::new(), 100));
    }
    let mut entries = numbered(5);
    entries.push((key("large"), filled(script.value_bytes_max + 1, 1)));
    script.call(Call::SetMany { entries, ttl: None }).call(Call::Scan(String::new(), 100));
}

fn get_many_answers_in_order(script: &mut Script<Call>) {
    script.call(Call::SetMany { entries: numbered(300), ttl: None });
    for count in [0, 1, 2, 8, 9, 64, 65, 256, 257, 1_000] {
        // Some are missing, some come more than once.
        script.call(Call::GetMany((0..count).map(|index| format!("k{}", (index * 7) % 350)).collect()));
    }
    let name = numbered(1).remove(0).0;
    script.call(Call::GetMany(vec![name.clone(), key("missing"), name]));
}

fn increment_is_checked(script: &mut Script<Call>) {
    let increment = |delta| Call::Increment(key("n"), delta, None);
    script.calls([increment(5), increment(-7), increment(0), get("n")]);
    for (value, delta) in [(i64::MAX, 1), (i64::MIN, -1), (1, i64::MAX), (-2, i64::MIN)] {
        script.calls([set("n", &value.to_string(), None), increment(delta), get("n"), increment(0)]);
    }
    for value in [i64::MAX, i64::MIN] {
        script.calls([Call::Delete(key("n")), increment(value), get("n"), increment(-(value / 2))]);
    }
    let texts =
        ["", "x", "1.5", "01", "+1", "-0", "-", " 1", "1 ", "1\0", "1\n", "0x1", "1e3", "9223372036854775808", "１"];
    for text in texts {
        script.calls([set("n", text, None), increment(1), get("n")]);
    }
    let value = Blob(vec![0xFF, 0xFE]);
    script.call(Call::Set { key: key("n"), value, ttl: None, when: When::Always }).calls([increment(1), get("n")]);
}

fn increment_keeps_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(Call::Increment(key("n"), 1, Some(ttl))).call(Call::Increment(key("n"), 1, Some(90 * ttl)));
    script.call(Call::Ttl(key("n"))).call(Call::Increment(key("n"), 1, None)).call(Call::Ttl(key("n")));
    script.call(set("kept", "1", None)).call(Call::Increment(key("kept"), 1, Some(ttl))).call(Call::Ttl(key("kept")));
    script.almost(ttl).past(ttl).calls([get("n"), get("kept")]);
    script.calls([Call::Increment(key("n"), 7, None), get("n"), Call::Ttl(key("n"))]);
}

fn scan_returns_every_key(script: &mut Script<Call>) {
    script.call(Call::SetMany { entries: numbered(500), ttl: None }).call(set("other", "v", None));
    for max in [1, 7, 100, 500, 1_000] {
        script.calls([Call::Scan(key("k"), max), Call::Scan(String::new(), max), Call::Scan(key("k4"), max)]);
    }
    script.calls([Call::Scan(key("none"), 10), Call::Scan(key("k499"), 1)]);
}

fn scan_is_stable_under_writes(script: &mut Script<Call>) {
    let scan = |script: &mut Script<Call>, max: u32, between: fn(usize) -> Vec<Call>| {
        script.call(Call::SetMany { entries: numbered(120), ttl: None }).call(Call::ScanBegin(key("k"), max));
        for round in 0..120 {
            script.calls(between(round)).call(Call::ScanNext);
        }
    };
    // What was returned goes away; new keys come before and after; values and times to live change.
    for max in [5, 1] {
        scan(script, max, |round| vec![Call::Delete(format!("k{}", round % 12))]);
        scan(script, max, |round| vec![set(&format!("k{round:03}"), "v", None), set(&format!("kk{round}"), "v", None)]);
        scan(script, max, |round| vec![set(&format!("k{round}"), "w", None), Call::Expire(format!("k{round}"), None)]);
        scan(script, max, |round| vec![Call::Delete(format!("kk{round}")), Call::Delete(format!("k{round:03}"))]);
    }
}

fn scan_refuses_foreign_cursors(script: &mut Script<Call>) {
    script.call(Call::SetMany { entries: numbered(10), ttl: None });
    for cursor in ["", "no cursor", "k9", "-1", "\0", "999999999999999999999999999999"] {
        for prefix in ["", "k"] {
            script.call(Call::ScanFrom { prefix: key(prefix), cursor: cursor.to_owned() });
        }
    }
}

fn sweep_takes_only_what_expired(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls((0..40).map(|number| set(&format!("old{number}"), "v", Some(ttl))));
    script.calls([set("kept", "v", None), set("later", "v", Some(FAR_MS)), set("renewed", "v", Some(ttl))]);
    script.call(Call::Expire(key("renewed"), Some(FAR_MS))).call(Call::Sweep(1_000)).step(Step::Audit);
    script.almost(ttl).call(Call::Sweep(1_000)).past(ttl);
    script.calls([Call::Sweep(1), Call::Sweep(10), Call::Sweep(1_000), Call::Sweep(1_000)]).step(Step::Audit);
}

fn kinds(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|key| set(key, key, None))).call(set("empty", "", None));
    script.call(Call::Increment(key("n"), 41, Some(FAR_MS))).call(Call::Expire(key("a"), Some(FAR_MS)));
    let value = filled(KIB * KIB, 5);
    script.call(Call::Set { key: key("large"), value, ttl: None, when: When::Always });
}

fn load_keeps_values_and_versions(script: &mut Script<Call>) {
    kinds(script);
    for max in [1, 7, 1_000] {
        script.step(Step::Move(Moving { max, again: false })).step(Step::Audit);
    }
    script.call(set_when("a", "new", None, When::IfCurrent)).call(get("a"));
}

fn load_keeps_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(set("k", "v", Some(ttl))).call(set("later", "v", Some(FAR_MS))).call(set("kept", "v", None));
    script.step(Step::Turn(ttl / 4)).step(Step::Move(Moving { max: 1, again: false }));
    script.calls([Call::Ttl(key("k")), Call::Ttl(key("later")), Call::Ttl(key("kept"))]);
    script.step(Step::Turn(ttl - ttl / 4)).call(get("k")).step(Step::Move(Moving { max: 10, again: false }));
    script.step(Step::Audit);
}

fn load_may_be_repeated(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Move(Moving { max: 5, again: true })).step(Step::Audit);
}

fn reopen_keeps_what_was_acknowledged(script: &mut Script<Call>) {
    kinds(script);
    script.call(Call::Delete(key("ab"))).step(Step::Reopen).step(Step::Audit);
    script.call(set_when("a", "new", None, When::IfCurrent)).call(Call::Increment(key("n"), 1, None));
    script.step(Step::Reopen).step(Step::Audit).step(Step::Reopen).step(Step::Audit);
}
