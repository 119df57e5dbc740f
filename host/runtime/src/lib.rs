//! compozy-runtime
