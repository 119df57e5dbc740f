//! The role `events`.

use async_trait::async_trait;

use super::{PluginStore, call};
use crate::bindings::events::EventsPlugin;
use crate::stores::changes::stream_topic;
use crate::stores::{
    DumpedStream, Event, EventPage, Events, HealthStatus, KeyPage, Result, Retention, Span, Statistics, StreamPage,
    StreamState,
};

/// The role `events` of a plugin.
pub type PluginEvents = PluginStore<EventsPlugin>;

#[async_trait]
impl Events for PluginEvents {
    async fn append(&self, stream: &str, payload: &[u8]) -> Result<u64> {
        let appended = call!(self, Once, compozy_store_events.call_append(stream, payload));
        self.changes.announce(|| stream_topic(stream));
        appended
    }

    async fn append_many(&self, stream: &str, payloads: &[Span], bytes: &[u8]) -> Result<u64> {
        let appended = call!(self, Once, compozy_store_events.call_append_many(stream, payloads, bytes));
        self.changes.announce(|| stream_topic(stream));
        appended
    }

    async fn read_after(&self, stream: &str, after: u64, max: u32) -> Result<EventPage> {
        call!(self, Again, compozy_store_events.call_read_after(stream, after, max))
    }

    async fn state(&self, stream: &str) -> Result<StreamState> {
        call!(self, Again, compozy_store_events.call_state(stream))
    }

    async fn trim(&self, stream: &str, keep: Retention) -> Result<u64> {
        call!(self, Once, compozy_store_events.call_trim(stream, keep))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, Again, compozy_store_events.call_list(prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, Again, compozy_store_events.call_health())
    }

    async fn stats(&self) -> Result<Statistics> {
        call!(self, Again, compozy_store_events.call_stats())
    }

    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<StreamPage> {
        call!(self, Again, compozy_store_events.call_dump(cursor, max))
    }

    async fn load(&self, streams: &[DumpedStream], events: &[Event], bytes: &[u8]) -> Result<()> {
        call!(self, Again, compozy_store_events.call_load(streams, events, bytes))
    }
}
