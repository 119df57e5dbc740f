//! The walk over a plugin's keys.

use redis::{Cmd, RedisWrite, Value};

use super::client::RedisClient;
use super::error::{invalid, server, too_large};
use crate::bindings::compozy::host::redis::{FoundKeys, RedisError};
use crate::limits::Limit;

/// Keys of one page.
const PAGE: u32 = 1_000;
/// Steps of the server within one call while they find nothing: keys of others lie between.
const STEPS: usize = 16;
/// What one key costs beside its bytes.
const KEY_BYTES: u64 = 16;

impl RedisClient {
    /// Some of the plugin's keys that start with `prefix`. A key that is no UTF-8 is left out, as it cannot be told.
    pub async fn scan(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<FoundKeys, RedisError> {
        if max == 0 || max > PAGE {
            return Err(invalid(format!("`max` is {max}; a page has 1 to {PAGE} keys")));
        }
        let mut cursor: u64 = match cursor {
            None => 0,
            Some(text) => text.parse().map_err(|_| invalid("the cursor is none that `scan` answered"))?,
        };
        let pattern = self.pattern(prefix);
        self.lanes
            .call(self.timeout(), 0, async |mut to, _| {
                let mut keys = Vec::new();
                for _ in 0..STEPS {
                    let mut command = Cmd::with_capacity(6, pattern.len() + 64);
                    command.arg("SCAN").arg(cursor).arg("MATCH");
                    command.write_arg(&pattern);
                    command.arg("COUNT").arg(max);
                    let value = to.send_packed_command(&command).await.map_err(|error| self.error(error))?;
                    cursor = self.page(value, &mut keys)?;
                    if cursor == 0 || !keys.is_empty() {
                        break;
                    }
                }
                let next = (cursor != 0).then(|| cursor.to_string());
                Ok(FoundKeys { keys, next })
            })
            .await
    }

    /// The pattern that matches what starts with the plugin's prefix and then this, literally.
    fn pattern(&self, prefix: &str) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.prefix.len() + prefix.len() + 8);
        for byte in self.prefix.bytes().chain(prefix.bytes()) {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'^' | b'\\') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        pattern
    }

    fn page(&self, value: Value, keys: &mut Vec<String>) -> Result<u64, RedisError> {
        let odd = || RedisError::Unavailable(format!("Redis at {} answered SCAN in another form", self.endpoint));
        let elements = match value {
            Value::Array(elements) => elements,
            Value::ServerError(error) => return Err(server(&error)),
            _ => return Err(odd()),
        };
        let Ok([Value::BulkString(cursor), Value::Array(found)]) = <[Value; 2]>::try_from(elements) else {
            return Err(odd());
        };
        let allowed = self.allowed();
        let mut used = 0;
        for key in found {
            let Value::BulkString(key) = key else { return Err(odd()) };
            let Some(Ok(key)) = key.strip_prefix(self.prefix.as_bytes()).map(|key| std::str::from_utf8(key)) else {
                continue;
            };
            used += key.len() as u64 + KEY_BYTES;
            if used > allowed {
                return Err(too_large(Limit::HostcallBytes, used, allowed));
            }
            keys.push(key.to_owned());
        }
        std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)
    }
}
