//! The configuration as an operator meets it: values of all sources, problems, and what is written about it.

mod declaration;
mod problems;
mod sources;
mod support;
mod written;
