//! The rules of the role `events`.

use crate::compare::Blob;
use crate::concurrent;
use crate::keys::{FAR_MS, KIB, filled, nasty, wrong};
use crate::model::Moving;
use crate::model::events::{Call, EventsModel};
use crate::script::{Script, Step};
use crate::suite::{Run, World};

use super::Rule;

/// Looks at all of them.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    super::scripts::<EventsModel>(world, run, RULES).await;
    concurrent::events::run(world, run).await;
    super::model::<EventsModel>(world, run).await;
}

const RULES: &[Rule<Call>] = &[
    ("missing-is-not-an-error", missing_is_not_an_error),
    ("streams-are-told-apart", streams_are_told_apart),
    ("prefix-is-literal", prefix_is_literal),
    ("key-limits-are-named", key_limits_are_named),
    ("payload-of-each-size-comes-back", payload_of_each_size_comes_back),
    ("value-limit-is-named", value_limit_is_named),
    ("batch-limits-are-named", batch_limits_are_named),
    ("page-limits-are-kept", page_limits_are_kept),
    ("span-past-the-end-is-refused", span_past_the_end_is_refused),
    ("sequence-has-no-gap", sequence_has_no_gap),
    ("sequence-goes-on-after-trim", sequence_goes_on_after_trim),
    ("append-many-writes-all-or-nothing", append_many_writes_all_or_nothing),
    ("read-after-answers-in-order", read_after_answers_in_order),
    ("trim-keeps-the-last-events", trim_keeps_the_last_events),
    ("trim-keeps-events-by-age", trim_keeps_events_by_age),
    ("list-returns-every-stream", list_returns_every_stream),
    ("list-is-stable-under-writes", list_is_stable_under_writes),
    ("list-refuses-foreign-cursors", list_refuses_foreign_cursors),
    ("load-keeps-events-and-sequences", load_keeps_events_and_sequences),
    ("load-keeps-sequences-of-trimmed-streams", load_keeps_sequences_of_trimmed_streams),
    ("load-may-be-repeated", load_may_be_repeated),
    ("reopen-keeps-what-was-acknowledged", reopen_keeps_what_was_acknowledged),
];

fn append(stream: &str, payload: &str) -> Call {
    Call::Append(stream.to_owned(), payload.into())
}

fn many(stream: &str, count: usize) -> Call {
    Call::AppendMany(stream.to_owned(), (0..count).map(|number| Blob::from(number.to_string().as_str())).collect())
}

fn read(stream: &str, after: u64, max: u32) -> Call {
    Call::ReadAfter { stream: stream.to_owned(), after, max }
}

fn state(stream: &str) -> Call {
    Call::State(stream.to_owned())
}

fn keep(stream: &str, events: u64) -> Call {
    Call::Keep(stream.to_owned(), events)
}

fn missing_is_not_an_error(script: &mut Script<Call>) {
    script.calls([state("s"), read("s", 0, 10), read("s", 5, 10), keep("s", 0)]);
    script.calls([Call::KeepAge("s".to_owned(), 1), Call::List(String::new(), 10), state("s")]);
    // An event without a payload is an event.
    script.calls([append("s", ""), state("s"), read("s", 0, 10)]);
}

fn streams_are_told_apart(script: &mut Script<Call>) {
    let streams = nasty();
    script.calls(streams.iter().map(|stream| append(stream, stream)));
    script.calls(streams.iter().step_by(2).map(|stream| many(stream, 3)));
    script.calls(streams.iter().step_by(3).map(|stream| keep(stream, 1))).step(Step::Audit);
}

fn prefix_is_literal(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|stream| append(stream, "e")));
    let wildcards = ["%", "_", "*", "?", "[", "[a-z]", "\\", ".", "^a", "{", "a%b", "a_b", "a.b"].map(str::to_owned);
    script.calls(wildcards.into_iter().chain(nasty()).map(|prefix| Call::List(prefix, 1_000)));
}

fn key_limits_are_named(script: &mut Script<Call>) {
    for stream in wrong() {
        script.calls([append(&stream, "e"), many(&stream, 2), read(&stream, 0, 10), state(&stream), keep(&stream, 1)]);
    }
    script.step(Step::Audit);
}

fn payload_of_each_size_comes_back(script: &mut Script<Call>) {
    let sizes = [0, 1, 64 * KIB, KIB * KIB, script.value_bytes_max];
    for (seed, bytes) in sizes.into_iter().enumerate() {
        let stream = format!("s{seed}");
        script.call(Call::Append(stream.clone(), filled(bytes, seed as u64))).call(read(&stream, 0, 1));
    }
    script.call(Call::AppendMany("s".to_owned(), vec![filled(64 * KIB, 1), Blob(Vec::new()), filled(KIB * KIB, 2)]));
    script.call(read("s", 0, 10)).call(read("s", 1, 10));
}

fn value_limit_is_named(script: &mut Script<Call>) {
    let large = filled(script.value_bytes_max + 1, 1);
    script.call(Call::Append("s".to_owned(), large.clone())).call(state("s"));
    script.call(Call::AppendMany("s".to_owned(), vec!["a".into(), large])).call(state("s"));
}

fn batch_limits_are_named(script: &mut Script<Call>) {
    script.calls([
        many("s", 1_001),
        many("s", 0),
        state("s"),
        many("s", 1_000),
        read("s", 0, 1_000),
        read("s", 999, 1),
    ]);
}

fn page_limits_are_kept(script: &mut Script<Call>) {
    script.call(many("s", 20));
    for max in [0, 1_001, u32::MAX, 1_000, 1, 7] {
        script.calls([read("s", 0, max), Call::List(String::new(), max), Call::Dump(max)]);
    }
}

fn span_past_the_end_is_refused(script: &mut Script<Call>) {
    script.call(append("s", "a")).call(Call::BadSpan("s".to_owned())).step(Step::Audit);
}

fn sequence_has_no_gap(script: &mut Script<Call>) {
    let max = script.value_bytes_max;
    for round in 0..10 {
        script.calls([append("s", "a"), append("other", "b"), many("s", 1 + round), state("s")]);
        // What was refused takes no number.
        script.calls([many("s", 0), Call::BadSpan("s".to_owned())]);
        if round == 5 {
            script.call(Call::Append("s".to_owned(), filled(max + 1, 1)));
        }
    }
    script.calls([read("s", 0, 1_000), read("other", 0, 1_000)]).step(Step::Audit);
}

fn sequence_goes_on_after_trim(script: &mut Script<Call>) {
    script.calls([many("s", 5), keep("s", 0), state("s"), read("s", 0, 10), Call::List(String::new(), 10)]);
    script.calls([append("s", "six"), state("s"), read("s", 0, 10), keep("s", 0), keep("s", 0), many("s", 2)]);
    script.step(Step::Audit);
}

fn append_many_writes_all_or_nothing(script: &mut Script<Call>) {
    let large = filled(script.value_bytes_max + 1, 1);
    script.call(append("s", "before"));
    script.call(Call::AppendMany("s".to_owned(), vec!["a".into(), "b".into(), large, "c".into()]));
    script.calls([state("s"), Call::BadSpan("s".to_owned()), state("s"), many("s", 3)]).step(Step::Audit);
}

fn read_after_answers_in_order(script: &mut Script<Call>) {
    script.calls([many("s", 30), keep("s", 25)]);
    for after in [0, 1, 4, 5, 6, 20, 28, 29, 30, 31, u64::MAX] {
        script.calls([1, 2, 7, 1_000].map(|max| read("s", after, max)));
    }
}

fn trim_keeps_the_last_events(script: &mut Script<Call>) {
    script.call(many("s", 10)).call(many("other", 3));
    for events in [u64::MAX, 11, 10, 9, 9, 4, 1, 0, 0] {
        script.calls([keep("s", events), state("s"), read("s", 0, 100)]);
    }
    script.step(Step::Audit);
}

fn trim_keeps_events_by_age(script: &mut Script<Call>) {
    let ttl = script.ttl;
    let age = |age| Call::KeepAge("s".to_owned(), age);
    script.calls([many("s", 3), age(FAR_MS), age(u64::MAX), state("s")]).almost(ttl).past(ttl);
    script.calls([many("s", 2), age(2 * ttl), state("s"), age(ttl / 2), state("s"), read("s", 0, 10)]);
    script.call(append("s", "last")).step(Step::Audit);
    if script.exact() {
        // Just as old as that stays; a millisecond older goes.
        script.step(Step::Turn(ttl)).calls([age(ttl), state("s")]).step(Step::Turn(1)).calls([age(ttl), state("s")]);
    }
}

fn list_returns_every_stream(script: &mut Script<Call>) {
    script.calls((0..150).map(|number| append(&format!("s{number}"), "e"))).call(append("other", "e"));
    for max in [1, 7, 150, 1_000] {
        script.calls([
            Call::List("s".to_owned(), max),
            Call::List(String::new(), max),
            Call::List("s14".to_owned(), max),
        ]);
    }
    script.calls([Call::List("none".to_owned(), 10), Call::List("s149".to_owned(), 1)]);
}

fn list_is_stable_under_writes(script: &mut Script<Call>) {
    script.calls((0..60).map(|number| append(&format!("s{number}"), "e")));
    for max in [4, 1] {
        script.call(Call::ListBegin("s".to_owned(), max));
        for round in 0..60 {
            script.calls([append(&format!("s{round:03}"), "e"), keep(&format!("s{round}"), 0), Call::ListNext]);
        }
    }
}

fn list_refuses_foreign_cursors(script: &mut Script<Call>) {
    script.calls((0..5).map(|number| append(&format!("s{number}"), "e")));
    for cursor in ["", "no cursor", "s3", "-1", "\0"] {
        script.call(Call::ListFrom { prefix: "s".to_owned(), cursor: cursor.to_owned() });
    }
}

fn kinds(script: &mut Script<Call>) {
    script.calls(nasty().iter().map(|stream| append(stream, stream))).calls([
        many("a", 30),
        many("ab", 5),
        keep("a", 12),
    ]);
    script.call(Call::Append("large".to_owned(), filled(KIB * KIB, 3))).call(append("large", ""));
}

fn load_keeps_events_and_sequences(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Turn(1));
    for max in [1, 7, 1_000] {
        script.step(Step::Move(Moving { max, again: false })).step(Step::Audit);
    }
    script.calls([append("a", "next"), append("ab", "next"), append("new", "first")]).step(Step::Audit);
}

fn load_keeps_sequences_of_trimmed_streams(script: &mut Script<Call>) {
    script.calls([many("s", 5), keep("s", 0), many("t", 5), keep("t", 2), many("u", 1)]);
    script
        .step(Step::Move(Moving { max: 1, again: false }))
        .step(Step::Audit)
        .call(append("s", "six"))
        .call(append("t", "six"));
    script.step(Step::Audit);
}

fn load_may_be_repeated(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Move(Moving { max: 5, again: true })).step(Step::Audit).call(append("a", "next"));
}

fn reopen_keeps_what_was_acknowledged(script: &mut Script<Call>) {
    kinds(script);
    script.step(Step::Reopen).step(Step::Audit).calls([append("a", "next"), many("ab", 2), keep("ab", 0)]);
    script.step(Step::Reopen).step(Step::Audit).call(append("ab", "next"));
}
