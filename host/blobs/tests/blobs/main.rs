//! One suite for all blob stores: whatever keeps the values, it keeps them in the same way.

mod rules;
mod s3;
mod stores;
mod uses;
