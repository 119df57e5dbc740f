//! Memory tasks: operations on the store of the role `memory-store`.

use std::sync::Arc;

use compozy_engine::port::{TaskCall, TaskReport};
use compozy_interpreter::Failure;
use compozy_plan::plan::MemoryOperation;
use compozy_runtime::Runtime;
use compozy_runtime::stores::{Counts, Keep, MemoryStore, Message, Messages, Span, StoreError};
use serde_json::{Value, json};

/// Does what a memory task says.
pub(crate) async fn execute(runtime: &Runtime, call: TaskCall) -> TaskReport {
    let result = if let Some(store) = &runtime.stores().memory {
        operate(store, &call).await
    } else {
        let problem = "no plugin fills the role `memory-store`, so a memory task has nothing to work on";
        Err(Failure::permanent("STORE_UNAVAILABLE", problem))
    };
    TaskReport { result, ran: None }
}

async fn operate(store: &Arc<dyn MemoryStore>, call: &TaskCall) -> Result<Value, Failure> {
    let name = call.tool.action.as_deref().unwrap_or_default();
    let operation = MemoryOperation::of(name)
        .ok_or_else(|| Failure::permanent("MEMORY_INVALID", format!("there is no memory operation `{name}`")))?;
    let key = call.input.get("key").and_then(Value::as_str).unwrap_or_default();
    let options = &call.tool.config;
    match operation {
        MemoryOperation::Read => {
            let messages = store.read(key).await.map_err(failure)?;
            Ok(json!({ "key": key, "messages": decode(&messages) }))
        }
        MemoryOperation::Append => {
            let messages = encode(call.input.get("payload").unwrap_or(&Value::Null))?;
            let counts = store.append(key, &messages, None, None).await.map_err(failure)?;
            Ok(counted(key, &counts))
        }
        MemoryOperation::Write => {
            let messages = encode(call.input.get("payload").unwrap_or(&Value::Null))?;
            let counts = store.replace(key, &messages, None).await.map_err(failure)?;
            Ok(counted(key, &counts))
        }
        MemoryOperation::Delete => {
            let removed = store.clear(key).await.map_err(failure)?;
            Ok(json!({ "key": key, "removed": removed }))
        }
        MemoryOperation::Clear => clear(store, key, &options["clear_config"]).await,
        MemoryOperation::Flush => flush(store, key, &options["flush_config"]).await,
        MemoryOperation::Health => {
            let health = store.health().await.map_err(failure)?;
            Ok(json!({ "healthy": true, "detail": health.detail }))
        }
        MemoryOperation::Stats => {
            let counts = store.count(key).await.map_err(failure)?;
            let mut stats = counted(key, &counts);
            if options["stats_config"]["include_content"] == true {
                stats["content"] = decode(&store.read(key).await.map_err(failure)?);
            }
            Ok(stats)
        }
    }
}

/// Removes all messages; with `backup` they are the answer.
async fn clear(store: &Arc<dyn MemoryStore>, key: &str, config: &Value) -> Result<Value, Failure> {
    let backup = if config["backup"] == true { decode(&store.read(key).await.map_err(failure)?) } else { Value::Null };
    let removed = store.clear(key).await.map_err(failure)?;
    Ok(json!({ "key": key, "removed": removed, "backup": backup }))
}

/// Keeps the latest `max_keys` messages, or half of them; with `dry_run` it only says how many would go.
async fn flush(store: &Arc<dyn MemoryStore>, key: &str, config: &Value) -> Result<Value, Failure> {
    let before = store.count(key).await.map_err(failure)?.messages;
    let keep = config["max_keys"].as_u64().unwrap_or(before.div_ceil(2)).min(before);
    let dry_run = config["dry_run"] == true;
    if !dry_run && keep < before {
        store.trim(key, Keep::Messages(u32::try_from(keep).unwrap_or(u32::MAX))).await.map_err(failure)?;
    }
    Ok(json!({ "key": key, "flushed": before - keep, "kept": keep, "dry_run": dry_run }))
}

fn counted(key: &str, counts: &Counts) -> Value {
    json!({ "key": key, "messages": counts.messages, "tokens": counts.tokens })
}

/// A message, a list of them, or a text, which is a message of the user.
fn encode(payload: &Value) -> Result<Messages, Failure> {
    let invalid = |problem: &str| Failure::permanent("MEMORY_INVALID", problem);
    let list = match payload {
        Value::Array(list) => list.clone(),
        Value::Null => return Err(invalid("the memory task has no messages; write them as `payload`")),
        one => vec![one.clone()],
    };
    let mut messages = Messages { list: Vec::with_capacity(list.len()), bytes: Vec::new() };
    for message in list {
        let message = match message {
            Value::String(content) => json!({ "role": "user", "content": content }),
            Value::Object(fields) if fields.contains_key("content") => Value::Object(fields),
            _ => return Err(invalid("a message must be a text, or an object with `role` and `content`")),
        };
        let bytes = message.to_string().into_bytes();
        let position = |at: usize| u32::try_from(at).map_err(|_| invalid("the messages have more than 4 GiB together"));
        let span = Span { offset: position(messages.bytes.len())?, length: position(bytes.len())? };
        messages.bytes.extend_from_slice(&bytes);
        messages.list.push(Message { span, tokens: tokens(&message) });
    }
    Ok(messages)
}

fn decode(messages: &Messages) -> Value {
    let one = |message: &Message| {
        let from = message.span.offset as usize;
        let bytes = messages.bytes.get(from..from.saturating_add(message.span.length as usize)).unwrap_or_default();
        // What another program stored may be any text.
        serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes).into_owned()))
    };
    Value::Array(messages.list.iter().map(one).collect())
}

/// About what a model counts: a token for four characters of the content and of the role, and two for the message.
fn tokens(message: &Value) -> u32 {
    let quarter = |field: &str| {
        let characters = match message.get(field) {
            Some(Value::String(text)) => text.chars().count(),
            Some(other) => other.to_string().chars().count(),
            None => 0,
        };
        u32::try_from(characters / 4).unwrap_or(u32::MAX).max(1)
    };
    quarter("content").saturating_add(quarter("role")).saturating_add(2)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in for a closure in map_err")]
fn failure(error: StoreError) -> Failure {
    Failure { retryable: error.retryable(), ..Failure::permanent(error.code(), error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_into_the_store_and_come_back() {
        let payload = json!([{ "role": "assistant", "content": "12345678" }, "hi"]);
        let messages = encode(&payload).expect("messages");
        let back = json!([{ "role": "assistant", "content": "12345678" }, { "role": "user", "content": "hi" }]);
        assert_eq!(decode(&messages), back);
        assert_eq!(messages.list.iter().map(|message| message.tokens).collect::<Vec<_>>(), [6, 4]);
        for wrong in [json!(null), json!([1]), json!({ "role": "user" })] {
            assert_eq!(encode(&wrong).expect_err("refused").code, "MEMORY_INVALID", "{wrong}");
        }
    }
}
