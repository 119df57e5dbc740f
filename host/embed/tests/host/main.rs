//! Hosts inside of this process: what they do, how they begin and end, and what they leave.

mod api;
mod common;
mod rates;
mod services;
mod start;
