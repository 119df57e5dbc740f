//! The contract of `wit/` as Rust: traits for what the host offers, typed calls for what plugins export.
//!
//! [`compozy`] holds the shared types and the traits of `compozy:host` (`log`, `progress`, `redis`, `sql`, `stores`). Each role has a module
//! with its calls; the types in them are those of [`compozy`], so a value passes between roles as it is.

#![allow(missing_docs, reason = "generated; the documentation is in wit/")]
#![allow(unreachable_pub, clippy::pedantic, clippy::unwrap_used, reason = "generated")]

wasmtime::component::bindgen!({
    path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
    world: "compozy:host/imports",
    imports: {
        // Everything that may wait for another connection, or may hand its thread over, is async.
        "compozy:host/sql.prepare": trappable,
        "compozy:host/sql.commit": trappable,
        "compozy:host/sql.rollback": trappable,
        "compozy:host/sql.[drop]statement": trappable,
        "compozy:host/sql": async | trappable,
        "compozy:host/redis.prepare": trappable,
        "compozy:host/redis.[drop]script": trappable,
        "compozy:host/redis": async | trappable,
        "compozy:host/stores": async | trappable,
        "compozy:host/log": trappable,
        "compozy:host/progress": trappable,
    },
    with: {
        "compozy:host/redis.script": crate::redis::Script,
        "compozy:host/sql.statement": crate::sql::Statement,
    },
    require_store_data_send: true,
});

/// `compozy:task/executor`.
pub mod task {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
        world: "compozy:task/task-plugin",
        exports: { default: async },
        with: { "compozy:types": super::compozy::types, "compozy:host": super::compozy::host },
        require_store_data_send: true,
    });
}

/// `compozy:store/cache`.
pub mod cache {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
        world: "compozy:store/cache-plugin",
        exports: { default: async },
        with: { "compozy:types": super::compozy::types, "compozy:host": super::compozy::host },
        require_store_data_send: true,
    });
}

/// `compozy:store/locks`.
pub mod locks {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
        world: "compozy:store/locks-plugin",
        exports: { default: async },
        with: { "compozy:types": super::compozy::types, "compozy:host": super::compozy::host },
        require_store_data_send: true,
    });
}

/// `compozy:store/events`.
pub mod events {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
        world: "compozy:store/events-plugin",
        exports: { default: async },
        with: { "compozy:types": super::compozy::types, "compozy:host": super::compozy::host },
        require_store_data_send: true,
    });
}

/// `compozy:store/config-store`.
pub mod config_store {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
        world: "compozy:store/config-store-plugin",
        exports: { default: async },
        with: { "compozy:types": super::compozy::types, "compozy:host": super::compozy::host },
        require_store_data_send: true,
    });
}

/// `compozy:store/memory-store`.
pub mod memory_store {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/task", "../../wit/store"],
        world: "compozy:store/memory-store-plugin",
        exports: { default: async },
        with: { "compozy:types": super::compozy::types, "compozy:host": super::compozy::host },
        require_store_data_send: true,
    });
}
