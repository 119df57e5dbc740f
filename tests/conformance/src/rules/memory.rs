//! The rules of the role `memory-store`.

use compozy_runtime::stores::Keep;

use crate::compare::Blob;
use crate::concurrent;
use crate::keys::{FAR_MS, KIB, filled, nasty, wrong};
use crate::model::Moving;
use crate::model::memory::{Call, FLUSH_MS, MemoryModel, Said};
use crate::script::{Script, Step};
use crate::suite::{Run, World};

use super::Rule;

/// Looks at all of them.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    super::scripts::<MemoryModel>(world, run, RULES).await;
    concurrent::memory::run(world, run).await;
    super::model::<MemoryModel>(world, run).await;
}

const RULES: &[Rule<Call>] = &[
    ("missing-is-empty-and-has-no-ttl", missing_is_empty_and_has_no_ttl),
    ("keys-are-told-apart", keys_are_told_apart),
    ("prefix-is-literal", prefix_is_literal),
    ("key-limits-are-named", key_limits_are_named),
    ("message-of-each-size-comes-back", message_of_each_size_comes_back),
    ("value-limit-is-named", value_limit_is_named),
    ("batch-limits-are-named", batch_limits_are_named),
    ("page-limits-are-kept", page_limits_are_kept),
    ("span-past-the-end-is-refused", span_past_the_end_is_refused),
    ("ttl-zero-is-refused", ttl_zero_is_refused),
    ("counts-are-exact", counts_are_exact),
    ("append-writes-all-or-nothing", append_writes_all_or_nothing),
    ("append-trims-in-one-step", append_trims_in_one_step),
    ("trim-keeps-the-last-messages", trim_keeps_the_last_messages),
    ("trim-keeps-the-last-tokens", trim_keeps_the_last_tokens),
    ("page-answers-slice-and-total", page_answers_slice_and_total),
    ("replace-puts-these-in-the-place-of-all", replace_puts_these_in_the_place_of_all),
    ("clear-takes-all", clear_takes_all),
    ("ttl-expires-for-every-operation", ttl_expires_for_every_operation),
    ("ttl-stays-unless-given", ttl_stays_unless_given),
    ("ttl-of-any-length-is-accepted", ttl_of_any_length_is_accepted),
    ("ttl-ends-with-the-last-message", ttl_ends_with_the_last_message),
    ("flush-flag-is-set-once", flush_flag_is_set_once),
    ("flush-flag-holds-for-thirty-minutes", flush_flag_holds_for_thirty_minutes),
    ("flush-flag-is-a-thing-of-its-own", flush_flag_is_a_thing_of_its_own),
    ("list-returns-every-memory", list_returns_every_memory),
    ("list-is-stable-under-writes", list_is_stable_under_writes),
    ("list-refuses-foreign-cursors", list_refuses_foreign_cursors),
    ("sweep-takes-only-what-expired", sweep_takes_only_what_expired),
    ("load-keeps-messages-and-counts", load_keeps_messages_and_counts),
    ("load-keeps-ttl", load_keeps_ttl),
    ("load-keeps-flush-flags", load_keeps_flush_flags),
    ("load-may-be-repeated", load_may_be_repeated),
    ("reopen-keeps-what-was-acknowledged", reopen_keeps_what_was_acknowledged),
];

fn said(texts: &[(&str, u32)]) -> Vec<Said> {
    texts.iter().map(|(text, tokens)| ((*text).into(), *tokens)).collect()
}

fn append_with(key: &str, messages: Vec<Said>, ttl: Option<u64>, keep: Option<Keep>) -> Call {
    Call::Append { key: key.to_owned(), messages, ttl, keep }
}

fn append(key: &str, texts: &[(&str, u32)]) -> Call {
    append_with(key, said(texts), None, None)
}

/// So many messages of one to five tokens.
fn numbered(count: u32) -> Vec<Said> {
    (0..count).map(|number| (Blob::from(number.to_string().as_str()), number % 5 + 1)).collect()
}

fn read(key: &str) -> Call {
    Call::Read(key.to_owned())
}

fn count(key: &str) -> Call {
    Call::Count(key.to_owned())
}

fn ttl_of(key: &str) -> Call {
    Call::Ttl(key.to_owned())
}

/// Every operation that looks at a memory.
fn looks(key: &str) -> [Call; 6] {
    let key = key.to_owned();
    [
        Call::Read(key.clone()),
        Call::Count(key.clone()),
        Call::Page(key.clone(), 0, 100),
        Call::Ttl(key.clone()),
        Call::IsMarked(key.clone()),
        Call::List(key, 10),
    ]
}

const ABC: &[(&str, u32)] = &[("a", 1), ("", 20), ("c", u32::MAX)];

fn missing_is_empty_and_has_no_ttl(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    script.calls(looks("m")).calls([
        Call::Trim(m(), Keep::Messages(1)),
        Call::Clear(m()),
        Call::Expire(m(), Some(FAR_MS)),
    ]);
    script.calls([Call::Replace(m(), Vec::new(), Some(FAR_MS)), Call::Expire(m(), None)]).calls(looks("m"));
    // An empty message is a message.
    script.call(append("m", &[("", 0)])).calls(looks("m")).call(Call::Clear(m())).calls(looks("m"));
}

fn keys_are_told_apart(script: &mut Script<Call>) {
    let keys = nasty();
    script.calls(keys.iter().map(|key| append(key, &[(key, 3)])));
    script.calls(keys.iter().step_by(2).map(|key| append(key, ABC)));
    script.calls(keys.iter().step_by(3).map(|key| Call::Mark(key.clone()))).step(Step::Audit);
    script.calls(keys.iter().step_by(2).map(|key| Call::Clear(key.clone()))).step(Step::Audit);
}

fn prefix_is_literal(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|key| append(key, ABC)));
    let wildcards = ["%", "_", "*", "?", "[", "[a-z]", "\\", ".", "^a", "{", "a%b", "a_b", "a.b"].map(str::to_owned);
    script.calls(wildcards.into_iter().chain(nasty()).map(|prefix| Call::List(prefix, 1_000)));
}

fn key_limits_are_named(script: &mut Script<Call>) {
    for key in wrong() {
        script.calls([append(&key, ABC), Call::Replace(key.clone(), said(ABC), None), read(&key), count(&key)]);
        script.calls([Call::Page(key.clone(), 0, 1), Call::Trim(key.clone(), Keep::Messages(1)), ttl_of(&key)]);
        script.calls([Call::Clear(key.clone()), Call::Expire(key.clone(), None), Call::Mark(key.clone())]);
        script.calls([Call::IsMarked(key.clone()), Call::Unmark(key)]);
    }
    script.step(Step::Audit);
}

fn message_of_each_size_comes_back(script: &mut Script<Call>) {
    for (seed, bytes) in [0, 1, 64 * KIB, KIB * KIB, script.value_bytes_max].into_iter().enumerate() {
        let key = format!("m{seed}");
        script.call(append_with(&key, vec![(filled(bytes, seed as u64), 1)], None, None));
        script.calls([Call::Page(key.clone(), 0, 1), read(&key)]);
    }
    script.call(append_with("m", vec![(filled(KIB * KIB, 9), 1), ("".into(), 2), ("end".into(), 3)], None, None));
    script.call(read("m"));
}

fn value_limit_is_named(script: &mut Script<Call>) {
    let large = || vec![("small".into(), 1), (filled(script_max(script), 1), 1)];
    let (first, second) = (large(), large());
    script.call(append("m", ABC)).call(append_with("m", first, None, None)).call(count("m"));
    script.call(Call::Replace("m".to_owned(), second, None)).call(count("m"));
}

fn script_max(script: &Script<Call>) -> usize {
    script.value_bytes_max + 1
}

fn batch_limits_are_named(script: &mut Script<Call>) {
    script.calls([append_with("m", numbered(1_001), None, None), append("m", &[]), count("m")]);
    script.calls([append_with("m", numbered(1_000), None, None), read("m")]);
    script.calls([Call::Replace("m".to_owned(), numbered(1_001), None), count("m")]);
    script.calls([Call::Replace("m".to_owned(), numbered(1_000), None), Call::Page("m".to_owned(), 0, 1_000)]);
}

fn page_limits_are_kept(script: &mut Script<Call>) {
    script.call(append_with("m", numbered(20), None, None));
    for max in [0, 1_001, u32::MAX, 1_000, 1, 7] {
        script.calls([
            Call::Page("m".to_owned(), 0, max),
            Call::List(String::new(), max),
            Call::Dump(max),
            Call::Sweep(max),
        ]);
    }
}

fn span_past_the_end_is_refused(script: &mut Script<Call>) {
    script.calls([append("m", ABC), Call::BadSpan("m".to_owned()), Call::BadSpan("n".to_owned())]).calls(looks("n"));
    script.step(Step::Audit);
}

fn ttl_zero_is_refused(script: &mut Script<Call>) {
    script.calls([append_with("m", said(ABC), Some(0), None), count("m"), append("m", ABC)]);
    script.calls([append_with("m", said(ABC), Some(0), None), Call::Replace("m".to_owned(), said(ABC), Some(0))]);
    script.call(Call::Expire("m".to_owned(), Some(0))).calls(looks("m"));
}

fn counts_are_exact(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    script.calls([append("m", ABC), append("m", ABC), count("m"), append("m", &[("x", 0)]), count("m")]);
    for keep in [Keep::Messages(5), Keep::Tokens(u64::from(u32::MAX) + 1), Keep::Messages(1), Keep::Messages(0)] {
        script.calls([
            append("m", ABC),
            Call::Trim(m(), keep),
            count("m"),
            append("m", &[("y", 7)]),
            count("m"),
            read("m"),
        ]);
    }
    script.calls([
        Call::Replace(m(), said(ABC), None),
        count("m"),
        append_with("m", numbered(500), None, Some(Keep::Messages(100))),
    ]);
    script.calls([count("m"), Call::Clear(m()), count("m"), append("m", ABC), count("m")]);
}

fn append_writes_all_or_nothing(script: &mut Script<Call>) {
    let mut messages = said(ABC);
    messages.push((filled(script.value_bytes_max + 1, 1), 1));
    let ttl = Some(FAR_MS);
    script.call(append("m", ABC)).call(append_with("m", messages, ttl, Some(Keep::Messages(1)))).calls(looks("m"));
}

fn append_trims_in_one_step(script: &mut Script<Call>) {
    for keep in [0, 1, 2, 3, 4, 100].map(Keep::Messages).into_iter().chain([0, 20, 21, u64::MAX].map(Keep::Tokens)) {
        script.call(append_with("m", said(ABC), None, Some(keep))).calls(looks("m"));
    }
    // More than is there in one call: only the last stay.
    script.call(append_with("n", numbered(1_000), Some(FAR_MS), Some(Keep::Messages(3)))).calls(looks("n"));
    script.call(append_with("o", numbered(10), Some(FAR_MS), Some(Keep::Messages(0)))).calls(looks("o"));
}

fn trim_keeps_the_last_messages(script: &mut Script<Call>) {
    script.call(append_with("m", numbered(10), None, None));
    for keep in [u32::MAX, 11, 10, 9, 9, 4, 1, 0, 0] {
        script.call(Call::Trim("m".to_owned(), Keep::Messages(keep))).calls(looks("m"));
    }
}

fn trim_keeps_the_last_tokens(script: &mut Script<Call>) {
    for keep in [u64::MAX, 30, 29, 16, 15, 14, 6, 5, 4, 1, 0] {
        script.call(Call::Replace("m".to_owned(), numbered(10), None));
        script.call(Call::Trim("m".to_owned(), Keep::Tokens(keep))).calls([read("m"), count("m")]);
    }
    // Messages that cost nothing stay as long as the run is not broken.
    let free = said(&[("a", 0), ("b", 5), ("c", 0), ("d", 0)]);
    for keep in [0, 4, 5] {
        script.call(Call::Replace("f".to_owned(), free.clone(), None));
        script.call(Call::Trim("f".to_owned(), Keep::Tokens(keep))).call(read("f"));
    }
    // A last message that costs more than that leaves nothing.
    script.calls([
        append("g", &[("a", 1), ("b", 10)]),
        Call::Trim("g".to_owned(), Keep::Tokens(9)),
        read("g"),
        ttl_of("g"),
    ]);
}

fn page_answers_slice_and_total(script: &mut Script<Call>) {
    script.call(append_with("m", numbered(25), None, Some(Keep::Messages(20))));
    for (offset, limit) in
        [(0, 5), (0, 20), (0, 1_000), (5, 5), (19, 2), (20, 1), (21, 1), (u64::MAX, 1), (u64::MAX, 1_000)]
    {
        script.call(Call::Page("m".to_owned(), offset, limit));
    }
}

fn replace_puts_these_in_the_place_of_all(script: &mut Script<Call>) {
    let replace = |messages, ttl| Call::Replace("m".to_owned(), messages, ttl);
    script
        .call(replace(said(ABC), None))
        .calls(looks("m"))
        .call(replace(said(&[("x", 7)]), Some(FAR_MS)))
        .calls(looks("m"));
    script.call(replace(numbered(30), None)).calls(looks("m")).call(replace(Vec::new(), None)).calls(looks("m"));
    script.call(append("m", ABC)).calls(looks("m"));
}

fn clear_takes_all(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    script
        .calls([append_with("m", said(ABC), Some(FAR_MS), None), Call::Mark(m()), Call::Clear(m())])
        .calls(looks("m"));
    script.calls([Call::Clear(m()), Call::Mark(m()), Call::Clear(m())]).calls(looks("m"));
    script.call(append("m", ABC)).calls(looks("m"));
}

fn ttl_expires_for_every_operation(script: &mut Script<Call>) {
    let ttl = script.ttl;
    let keys = ["look", "append", "trim", "clear", "expire", "replace"];
    script.calls(keys.map(|key| append_with(key, said(ABC), Some(ttl), None))).call(append("kept", ABC));
    script.almost(ttl).calls(looks("look")).past(ttl).calls(looks("look"));
    let name = |at: usize| keys[at].to_owned();
    script.calls([append(keys[1], &[("new", 4)]), Call::Trim(name(2), Keep::Messages(9)), Call::Clear(name(3))]);
    script.calls([Call::Expire(name(4), None), Call::Replace(name(5), said(&[("new", 4)]), None)]);
    script.calls(keys.iter().flat_map(|key| looks(key))).call(Call::List(String::new(), 10)).call(Call::Dump(10));
    script.step(Step::Audit);
}

fn ttl_stays_unless_given(script: &mut Script<Call>) {
    let ttl = script.ttl;
    let m = || "m".to_owned();
    script.calls([append_with("m", said(ABC), Some(ttl), None), append("m", ABC), ttl_of("m")]);
    script.calls([Call::Replace(m(), numbered(9), None), ttl_of("m"), Call::Trim(m(), Keep::Messages(2)), ttl_of("m")]);
    script.calls([
        append_with("n", said(ABC), Some(ttl), None),
        append_with("n", said(ABC), Some(FAR_MS), None),
        ttl_of("n"),
    ]);
    script.calls([append_with("o", said(ABC), Some(ttl), None), Call::Expire("o".to_owned(), None), ttl_of("o")]);
    script.almost(ttl).past(ttl).calls([count("m"), count("n"), count("o")]);
}

fn ttl_of_any_length_is_accepted(script: &mut Script<Call>) {
    for (key, ttl) in [("far", FAR_MS), ("farther", u64::MAX / 1_000), ("farthest", u64::MAX)] {
        script.calls([append_with(key, said(ABC), Some(ttl), None), read(key)]);
        script.calls([
            Call::Expire(key.to_owned(), Some(ttl)),
            Call::Replace(key.to_owned(), said(ABC), Some(ttl)),
            read(key),
        ]);
    }
}

fn ttl_ends_with_the_last_message(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    let empties = [Call::Trim(m(), Keep::Messages(0)), Call::Replace(m(), Vec::new(), None), Call::Clear(m())];
    for empty in empties {
        script.calls([
            append_with("m", said(ABC), Some(FAR_MS), None),
            empty,
            ttl_of("m"),
            append("m", ABC),
            ttl_of("m"),
        ]);
        script.call(Call::Clear(m()));
    }
    let keep = Some(Keep::Messages(0));
    script.calls([append_with("m", said(ABC), Some(FAR_MS), keep), ttl_of("m"), append("m", ABC), ttl_of("m")]);
}

fn flush_flag_is_set_once(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    script.calls([Call::IsMarked(m()), Call::Unmark(m()), Call::Mark(m()), Call::Mark(m()), Call::IsMarked(m())]);
    script.calls([Call::IsMarked("n".to_owned()), Call::Unmark(m()), Call::Unmark(m()), Call::IsMarked(m())]);
    script.calls([Call::Mark(m()), Call::IsMarked(m())]);
}

fn flush_flag_holds_for_thirty_minutes(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    script.needs_clock().call(Call::Mark(m())).step(Step::Turn(FLUSH_MS / 2)).call(Call::Mark(m()));
    script.step(Step::Turn(FLUSH_MS / 2 - 1)).call(Call::IsMarked(m())).step(Step::Turn(1));
    script.calls([Call::IsMarked(m()), Call::Unmark(m()), Call::Mark(m()), Call::IsMarked(m())]);
}

fn flush_flag_is_a_thing_of_its_own(script: &mut Script<Call>) {
    let ttl = script.ttl;
    let m = || "m".to_owned();
    script.call(Call::Mark(m())).calls(looks("m")).call(append_with("m", said(ABC), Some(ttl), None));
    script.calls([
        Call::Trim(m(), Keep::Messages(0)),
        Call::IsMarked(m()),
        append_with("m", said(ABC), Some(ttl), None),
    ]);
    script
        .almost(ttl)
        .past(ttl)
        .calls(looks("m"))
        .call(Call::Mark(m()))
        .call(Call::Sweep(100))
        .call(Call::IsMarked(m()));
}

fn list_returns_every_memory(script: &mut Script<Call>) {
    script.calls((0..150).map(|number| append(&format!("m{number}"), &[("x", 1)]))).call(append("other", ABC));
    for max in [1, 7, 150, 1_000] {
        script.calls([
            Call::List("m".to_owned(), max),
            Call::List(String::new(), max),
            Call::List("m14".to_owned(), max),
        ]);
    }
    script.calls([Call::Mark("flag".to_owned()), Call::List("none".to_owned(), 10), Call::List("m149".to_owned(), 1)]);
}

fn list_is_stable_under_writes(script: &mut Script<Call>) {
    for (adds, max) in [(false, 4), (true, 4), (false, 1)] {
        script.calls((0..60).map(|number| append(&format!("m{number}"), &[("x", 1)])));
        script.call(Call::ListBegin("m".to_owned(), max));
        for round in 0..60 {
            let write = if adds {
                append(&format!("m{round:03}"), &[("x", 1)])
            } else {
                Call::Clear(format!("m{}", round % 8))
            };
            script.calls([write, Call::ListNext]);
        }
    }
}

fn list_refuses_foreign_cursors(script: &mut Script<Call>) {
    script.calls((0..5).map(|number| append(&format!("m{number}"), ABC)));
    for cursor in ["", "no cursor", "m3", "-1", "\0"] {
        script.call(Call::ListFrom { prefix: "m".to_owned(), cursor: cursor.to_owned() });
    }
}

fn sweep_takes_only_what_expired(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls((0..20).map(|number| append_with(&format!("old{number}"), said(ABC), Some(ttl), None)));
    script.calls([
        append("kept", ABC),
        append_with("later", said(ABC), Some(FAR_MS), None),
        Call::Mark("kept".to_owned()),
    ]);
    script.call(Call::Sweep(1_000)).step(Step::Audit).almost(ttl).past(ttl);
    script.calls([Call::Sweep(1), Call::Sweep(1_000), Call::Sweep(1_000)]).step(Step::Audit);
}

fn kinds(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|key| append(key, &[(key, 3), ("", 0)])));
    script.calls([append_with("a", numbered(30), None, Some(Keep::Messages(25))), Call::Mark("a".to_owned())]);
    script.calls([Call::Mark("flag alone".to_owned()), Call::Expire("ab".to_owned(), Some(FAR_MS))]);
    script.call(append_with("large", vec![(filled(KIB * KIB, 6), 1_000), ("end".into(), 1)], None, None));
}

fn load_keeps_messages_and_counts(script: &mut Script<Call>) {
    kinds(script);
    for max in [1, 7, 1_000] {
        script.step(Step::Move(Moving { max, again: false })).step(Step::Audit);
    }
    script.calls([append("a", ABC), Call::Trim("a".to_owned(), Keep::Messages(4)), read("a")]).step(Step::Audit);
}

fn load_keeps_ttl(script: &mut Script<Call>) {
    let ttl = script.ttl;
    script.calls([append_with("m", numbered(5), Some(ttl), None), append_with("n", said(ABC), Some(FAR_MS), None)]);
    script.call(append("kept", ABC)).step(Step::Turn(ttl / 4)).step(Step::Move(Moving { max: 2, again: false }));
    script.step(Step::Audit).step(Step::Turn(ttl - ttl / 4)).calls([count("m"), count("n"), count("kept")]);
    script.step(Step::Audit);
}

fn load_keeps_flush_flags(script: &mut Script<Call>) {
    let m = || "m".to_owned();
    script.calls([append("m", ABC), Call::Mark(m()), Call::Mark("alone".to_owned())]).step(Step::Turn(1));
    script.step(Step::Move(Moving { max: 1, again: false })).step(Step::Audit);
    script.calls([Call::Mark(m()), Call::Mark("alone".to_owned()), Call::Clear("alone".to_owned())]).step(Step::Audit);
    if script.exact() {
        script.step(Step::Turn(FLUSH_MS - 2)).call(Call::IsMarked(m())).step(Step::Turn(1)).call(Call::IsMarked(m()));
    }
}

fn load_may_be_repeated(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Move(Moving { max: 5, again: true })).step(Step::Audit).call(append("a", ABC)).call(read("a"));
}

fn reopen_keeps_what_was_acknowledged(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Reopen).step(Step::Audit).calls([append("a", ABC), Call::Clear("ab".to_owned())]);
    script.calls([Call::Trim("large".to_owned(), Keep::Messages(1)), Call::Unmark("a".to_owned())]);
    script.step(Step::Reopen).step(Step::Audit);
}
