//! compozy-server
