//! The rules of the role `config-store`.

use compozy_runtime::stores::Namespace::{self, Config, Metadata};

use crate::concurrent;
use crate::keys::{FAR_MS, KIB, filled, nasty, wrong};
use crate::model::Moving;
use crate::model::config::{Call, ConfigModel, Verb};
use crate::script::{Script, Step};
use crate::suite::{Run, World};

use super::Rule;

/// Looks at all of them.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    super::scripts::<ConfigModel>(world, run, RULES).await;
    concurrent::config::run(world, run).await;
    super::model::<ConfigModel>(world, run).await;
}

const RULES: &[Rule<Call>] = &[
    ("missing-is-not-empty", missing_is_not_empty),
    ("ids-are-told-apart", ids_are_told_apart),
    ("namespaces-never-meet", namespaces_never_meet),
    ("prefix-is-literal", prefix_is_literal),
    ("key-limits-are-named", key_limits_are_named),
    ("value-of-each-size-comes-back", value_of_each_size_comes_back),
    ("value-limit-is-named", value_limit_is_named),
    ("page-limits-are-kept", page_limits_are_kept),
    ("ttl-zero-is-refused", ttl_zero_is_refused),
    ("ttl-expires-for-every-operation", ttl_expires_for_every_operation),
    ("ttl-of-any-length-is-accepted", ttl_of_any_length_is_accepted),
    ("get-resets-ttl", get_resets_ttl),
    ("peek-leaves-ttl", peek_leaves_ttl),
    ("save-replaces-value-and-ttl", save_replaces_value_and_ttl),
    ("list-returns-every-id", list_returns_every_id),
    ("list-is-stable-under-writes", list_is_stable_under_writes),
    ("list-refuses-foreign-cursors", list_refuses_foreign_cursors),
    ("sweep-takes-only-what-expired", sweep_takes_only_what_expired),
    ("load-keeps-values", load_keeps_values),
    ("load-keeps-ttl", load_keeps_ttl),
    ("load-may-be-repeated", load_may_be_repeated),
    ("reopen-keeps-what-was-acknowledged", reopen_keeps_what_was_acknowledged),
];

const BOTH: [Namespace; 2] = [Config, Metadata];

fn save_in(namespace: Namespace, id: &str, value: &str, ttl: Option<u64>) -> Call {
    Call(namespace, Verb::Save(id.to_owned(), value.into(), ttl))
}

fn save(id: &str, value: &str, ttl: Option<u64>) -> Call {
    save_in(Config, id, value, ttl)
}

fn get(id: &str) -> Call {
    Call(Config, Verb::Get(id.to_owned()))
}

fn peek(id: &str) -> Call {
    Call(Config, Verb::Peek(id.to_owned()))
}

fn delete(id: &str) -> Call {
    Call(Config, Verb::Delete(id.to_owned()))
}

fn list(prefix: &str, max: u32) -> Call {
    Call(Config, Verb::List(prefix.to_owned(), max))
}

fn missing_is_not_empty(script: &mut Script<Call>) {
    script.calls([get("i"), peek("i"), delete("i"), list("", 10), save("i", "", None), get("i"), peek("i")]);
    script.calls([list("", 10), delete("i"), delete("i"), get("i"), peek("i"), list("", 10)]);
}

fn ids_are_told_apart(script: &mut Script<Call>) {
    let ids = nasty();
    script.calls(ids.iter().map(|id| save(id, id, None))).calls(ids.iter().flat_map(|id| [get(id), peek(id)]));
    script.calls(ids.iter().step_by(2).map(|id| delete(id))).step(Step::Audit);
}

fn namespaces_never_meet(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|id| save(id, "config", None)));
    script.calls(nasty().iter().map(|id| Call(Metadata, Verb::Peek(id.clone()))));
    script.calls(nasty().iter().step_by(2).map(|id| save_in(Metadata, id, "metadata", None))).step(Step::Audit);
    script.calls(nasty().iter().step_by(3).map(|id| Call(Metadata, Verb::Delete(id.clone())))).step(Step::Audit);
    script.calls(nasty().iter().map(|id| delete(id))).step(Step::Audit);
}

fn prefix_is_literal(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|id| save(id, "v", None)));
    let wildcards = ["%", "_", "*", "?", "[", "[a-z]", "\\", ".", "^a", "{", "a%b", "a_b", "a.b"].map(str::to_owned);
    script.calls(wildcards.iter().chain(&nasty()).map(|prefix| list(prefix, 1_000)));
}

fn key_limits_are_named(script: &mut Script<Call>) {
    for id in wrong() {
        script.calls([save(&id, "v", None), get(&id), peek(&id), delete(&id), save_in(Metadata, &id, "v", None)]);
    }
    script.step(Step::Audit);
}

fn value_of_each_size_comes_back(script: &mut Script<Call>) {
    for (seed, bytes) in [0, 1, 64 * KIB, KIB * KIB, script.value_bytes_max].into_iter().enumerate() {
        let value = filled(bytes, seed as u64);
        script.call(Call(Config, Verb::Save("i".to_owned(), value, None))).calls([get("i"), peek("i")]);
    }
}

fn value_limit_is_named(script: &mut Script<Call>) {
    let value = filled(script.value_bytes_max + 1, 1);
    script.call(save("i", "before", None)).call(Call(Config, Verb::Save("i".to_owned(), value, None))).call(get("i"));
}

fn page_limits_are_kept(script: &mut Script<Call>) {
    script.call(save("i", "v", None));
    for max in [0, 1_001, u32::MAX, 1_000, 1] {
        script.calls([list("", max), Call(Config, Verb::Dump(max)), Call(Config, Verb::Sweep(max))]);
    }
}

fn ttl_zero_is_refused(script: &mut Script<Call>) {
    script.calls([save("i", "v", None), save("i", "w", Some(0)), save("j", "w", Some(0))]).step(Step::Audit);
}

fn ttl_expires_for_every_operation(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls(["g", "p", "d", "l"].map(|id| save(id, "v", Some(ttl)))).call(save("kept", "v", None));
    script.almost(ttl).calls(["g", "p", "d", "l"].map(peek)).call(list("", 10)).past(ttl);
    script.calls([get("g"), peek("g"), peek("p"), delete("d"), list("", 10), list("l", 10)]);
    script.call(Call(Config, Verb::Dump(10))).step(Step::Audit);
}

fn ttl_of_any_length_is_accepted(script: &mut Script<Call>) {
    for (id, ttl) in [("far", FAR_MS), ("farther", u64::MAX / 1_000), ("farthest", u64::MAX)] {
        script.calls([save(id, "v", Some(ttl)), get(id), peek(id)]);
    }
}

fn get_resets_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(save("i", "v", Some(ttl)));
    for _ in 0..3 {
        script.almost(ttl).call(get("i"));
    }
    script.almost(ttl).call(peek("i")).past(ttl).calls([peek("i"), get("i"), list("", 10)]);
}

fn peek_leaves_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.call(save("i", "v", Some(ttl))).almost(ttl).calls([peek("i"), list("", 10), Call(Config, Verb::Dump(10))]);
    script.past(ttl).calls([peek("i"), get("i")]);
}

fn save_replaces_value_and_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([save("i", "1", Some(ttl)), save("i", "2", None), save("j", "1", None), save("j", "2", Some(ttl))]);
    script.calls([save("k", "1", Some(FAR_MS)), save("k", "2", Some(ttl)), get("k"), peek("j")]).step(Step::Audit);
    script.almost(ttl).past(ttl).calls([get("i"), get("j"), get("k"), save("j", "3", None), get("j")]);
}

fn list_returns_every_id(script: &mut Script<Call>) {
    script.calls((0..150).map(|number| save(&format!("i{number}"), "v", None))).call(save("other", "v", None));
    script.calls([1, 7, 150, 1_000].into_iter().flat_map(|max| [list("i", max), list("", max), list("i14", max)]));
    script.calls([list("none", 10), list("i149", 1)]);
}

fn list_is_stable_under_writes(script: &mut Script<Call>) {
    for (adds, max) in [(false, 4), (true, 4), (false, 1)] {
        script.calls((0..60).map(|number| save(&format!("i{number}"), "v", None)));
        script.call(Call(Config, Verb::ListBegin("i".to_owned(), max)));
        for round in 0..60 {
            let write =
                if adds { save(&format!("i{round:03}"), "v", None) } else { delete(&format!("i{}", round % 8)) };
            script.calls([write, Call(Config, Verb::ListNext)]);
        }
    }
}

fn list_refuses_foreign_cursors(script: &mut Script<Call>) {
    script.calls((0..5).map(|number| save(&format!("i{number}"), "v", None)));
    for cursor in ["", "no cursor", "i3", "-1", "\0"] {
        script.call(Call(Config, Verb::ListFrom { prefix: "i".to_owned(), cursor: cursor.to_owned() }));
    }
}

fn sweep_takes_only_what_expired(script: &mut Script<Call>) {
    let ttl = script.ttl;
    for namespace in BOTH {
        script.calls((0..20).map(|number| save_in(namespace, &format!("old{number}"), "v", Some(ttl))));
        script.calls([save_in(namespace, "kept", "v", None), save_in(namespace, "later", "v", Some(FAR_MS))]);
    }
    let sweep = |max| Call(Config, Verb::Sweep(max));
    script.call(sweep(1_000)).step(Step::Audit).almost(ttl).past(ttl);
    script.calls([sweep(1), sweep(1_000), sweep(1_000)]).step(Step::Audit);
}

fn kinds(script: &mut Script<Call>) {
    for namespace in BOTH {
        script.calls(nasty().iter().map(|id| save_in(namespace, id, id, None)));
        script.calls([save_in(namespace, "empty", "", Some(FAR_MS))]);
    }
    script.call(Call(Metadata, Verb::Save("large".to_owned(), filled(KIB * KIB, 4), None)));
}

fn load_keeps_values(script: &mut Script<Call>) {
    kinds(script);
    for max in [1, 7, 1_000] {
        script.step(Step::Move(Moving { max, again: false })).step(Step::Audit);
    }
}

fn load_keeps_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([save("i", "v", Some(ttl)), save("j", "v", Some(ttl)), save("kept", "v", None)]);
    script.step(Step::Turn(ttl / 4)).step(Step::Move(Moving { max: 1, again: false })).step(Step::Audit);
    // What is left goes on; a get still resets to the full time.
    script.step(Step::Turn(ttl / 4)).call(get("j")).step(Step::Turn(ttl - ttl / 4 * 2)).calls([peek("i"), peek("j")]);
    script.step(Step::Turn(ttl)).step(Step::Audit);
}

fn load_may_be_repeated(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Move(Moving { max: 5, again: true })).step(Step::Audit);
}

fn reopen_keeps_what_was_acknowledged(script: &mut Script<Call>) {
    kinds(script);
    script
        .call(delete("ab"))
        .step(Step::Reopen)
        .step(Step::Audit)
        .calls([save("a", "new", Some(FAR_MS)), get("empty")]);
    script.step(Step::Reopen).step(Step::Audit);
}
