//! What wit-bindgen makes of `wit/`. The imports and the shared types are generated once; each exported interface has a
//! world and a module of its own, so that its export macro has a name of its own.
//!
//! The export macros only define the component's entry points. They are expanded in the author's crate, by
//! [`task_plugin!`](crate::task_plugin) and [`store_plugin!`](crate::store_plugin).
#![allow(missing_docs, unreachable_pub, reason = "generated; the documentation is that of the WIT")]
#![allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
#![allow(unsafe_code, reason = "generated: calls over the component boundary")]

/// What the host offers, and the types that all packages share.
pub mod imports {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host"],
        world: "compozy:host/imports",
        generate_all,
        generate_unused_types: true,
    });
}

/// A task executor.
pub mod task {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host", "wit/task"],
        world: "compozy:task/task-plugin",
        pub_export_macro: true,
        export_macro_name: "export_task_executor",
        default_bindings_module: "compozy_sdk::bindings::task",
        with: {
            "compozy:types/buffers@0.1.0": crate::bindings::imports::compozy::types::buffers,
            "compozy:types/stores@0.1.0": crate::bindings::imports::compozy::types::stores,
            "compozy:host/log@0.1.0": crate::bindings::imports::compozy::host::log,
            "compozy:host/progress@0.1.0": crate::bindings::imports::compozy::host::progress,
            "compozy:host/redis@0.1.0": crate::bindings::imports::compozy::host::redis,
            "compozy:host/sql@0.1.0": crate::bindings::imports::compozy::host::sql,
            "compozy:host/stores@0.1.0": crate::bindings::imports::compozy::host::stores,
        },
    });
}

/// A backend for the role `cache`.
pub mod cache {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host", "wit/store"],
        world: "compozy:store/cache-plugin",
        pub_export_macro: true,
        export_macro_name: "export_cache",
        default_bindings_module: "compozy_sdk::bindings::cache",
        with: {
            "compozy:types/buffers@0.1.0": crate::bindings::imports::compozy::types::buffers,
            "compozy:types/stores@0.1.0": crate::bindings::imports::compozy::types::stores,
            "compozy:host/log@0.1.0": crate::bindings::imports::compozy::host::log,
            "compozy:host/redis@0.1.0": crate::bindings::imports::compozy::host::redis,
            "compozy:host/sql@0.1.0": crate::bindings::imports::compozy::host::sql,
        },
    });
}

/// A backend for the role `locks`.
pub mod locks {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host", "wit/store"],
        world: "compozy:store/locks-plugin",
        pub_export_macro: true,
        export_macro_name: "export_locks",
        default_bindings_module: "compozy_sdk::bindings::locks",
        with: {
            "compozy:types/buffers@0.1.0": crate::bindings::imports::compozy::types::buffers,
            "compozy:types/stores@0.1.0": crate::bindings::imports::compozy::types::stores,
            "compozy:host/log@0.1.0": crate::bindings::imports::compozy::host::log,
            "compozy:host/redis@0.1.0": crate::bindings::imports::compozy::host::redis,
            "compozy:host/sql@0.1.0": crate::bindings::imports::compozy::host::sql,
        },
    });
}

/// A backend for the role `events`.
pub mod events {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host", "wit/store"],
        world: "compozy:store/events-plugin",
        pub_export_macro: true,
        export_macro_name: "export_events",
        default_bindings_module: "compozy_sdk::bindings::events",
        with: {
            "compozy:types/buffers@0.1.0": crate::bindings::imports::compozy::types::buffers,
            "compozy:types/stores@0.1.0": crate::bindings::imports::compozy::types::stores,
            "compozy:host/log@0.1.0": crate::bindings::imports::compozy::host::log,
            "compozy:host/redis@0.1.0": crate::bindings::imports::compozy::host::redis,
            "compozy:host/sql@0.1.0": crate::bindings::imports::compozy::host::sql,
        },
    });
}

/// A backend for the role `config-store`.
pub mod config_store {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host", "wit/store"],
        world: "compozy:store/config-store-plugin",
        pub_export_macro: true,
        export_macro_name: "export_config_store",
        default_bindings_module: "compozy_sdk::bindings::config_store",
        with: {
            "compozy:types/buffers@0.1.0": crate::bindings::imports::compozy::types::buffers,
            "compozy:types/stores@0.1.0": crate::bindings::imports::compozy::types::stores,
            "compozy:host/log@0.1.0": crate::bindings::imports::compozy::host::log,
            "compozy:host/redis@0.1.0": crate::bindings::imports::compozy::host::redis,
            "compozy:host/sql@0.1.0": crate::bindings::imports::compozy::host::sql,
        },
    });
}

/// A backend for the role `memory-store`.
pub mod memory_store {
    wit_bindgen::generate!({
        path: ["wit/types", "wit/host", "wit/store"],
        world: "compozy:store/memory-store-plugin",
        pub_export_macro: true,
        export_macro_name: "export_memory_store",
        default_bindings_module: "compozy_sdk::bindings::memory_store",
        with: {
            "compozy:types/buffers@0.1.0": crate::bindings::imports::compozy::types::buffers,
            "compozy:types/stores@0.1.0": crate::bindings::imports::compozy::types::stores,
            "compozy:host/log@0.1.0": crate::bindings::imports::compozy::host::log,
            "compozy:host/redis@0.1.0": crate::bindings::imports::compozy::host::redis,
            "compozy:host/sql@0.1.0": crate::bindings::imports::compozy::host::sql,
        },
    });
}
