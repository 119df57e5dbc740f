//! What components can import, and the words for what does not fit.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, Linker};

use crate::bindings::compozy::host;
use crate::error::nearest;
use crate::guest::GuestState;
use crate::log::LogAccess;
use crate::progress::ProgressAccess;
use crate::redis::RedisAccess;
use crate::sql::SqlAccess;
use crate::stores::StoreAccess;

/// Interfaces that the host offers, without their versions.
const OFFERED: [&str; 33] = [
    "compozy:host/log",
    "compozy:host/progress",
    "compozy:host/redis",
    "compozy:host/sql",
    "compozy:host/stores",
    "compozy:types/buffers",
    "compozy:types/stores",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
];
/// Those of the sockets, which come in too many names to line up above.
const OFFERED_SOCKETS: [&str; 3] =
    ["wasi:sockets/tcp-create-socket", "wasi:sockets/udp", "wasi:sockets/udp-create-socket"];

struct Log;
impl HasData for Log {
    type Data<'a> = &'a mut LogAccess;
}
struct Progress;
impl HasData for Progress {
    type Data<'a> = &'a mut ProgressAccess;
}
struct Redis;
impl HasData for Redis {
    type Data<'a> = &'a mut RedisAccess;
}
struct Sql;
impl HasData for Sql {
    type Data<'a> = &'a mut SqlAccess;
}
struct Stores;
impl HasData for Stores {
    type Data<'a> = &'a mut StoreAccess;
}

/// The one linker: every plugin sees the same functions, and what it was not granted answers `denied`.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::<GuestState>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    host::log::add_to_linker::<_, Log>(&mut linker, |state| &mut state.log)?;
    host::progress::add_to_linker::<_, Progress>(&mut linker, |state| &mut state.progress)?;
    host::redis::add_to_linker::<_, Redis>(&mut linker, |state| &mut state.redis)?;
    host::stores::add_to_linker::<_, Stores>(&mut linker, |state| &mut state.stores)?;
    host::sql::add_to_linker::<_, Sql>(&mut linker, |state| {
        // After a wait the rest of the budget ends at another moment.
        if let Some(deadline) = state.clock.new_deadline() {
            state.sql.begin_call(Some(deadline));
        }
        &mut state.sql
    })?;
    Ok(linker)
}

/// Each import that the host does not have at all, with what may have been meant.
pub(crate) fn unknown_imports(engine: &Engine, component: &Component) -> Vec<String> {
    let offered = || OFFERED.into_iter().chain(OFFERED_SOCKETS);
    let mut unknown = Vec::new();
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(_) = item.ty else {
            unknown.push(format!("`{name}`, which is no interface: a plugin may import interfaces only"));
            continue;
        };
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        if !offered().any(|known| known == interface) {
            let hint = match nearest(interface, offered()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "the host does not offer it".to_owned(),
            };
            unknown.push(format!("`{name}`: {hint}"));
        } else if let Some(track) = wrong_track(interface, version) {
            unknown.push(format!("`{name}`: the host offers {track}"));
        }
    }
    unknown
}

/// Versions that the host has of a package, when this is none of them.
fn wrong_track(interface: &str, version: &str) -> Option<&'static str> {
    let (track, told) = if interface.starts_with("wasi:") { ("0.2.", "WASI 0.2") } else { ("0.1.", "version 0.1") };
    if version.starts_with(track) { None } else { Some(told) }
}
