//! Integration tests: the real binary, driven from outside.

mod api;
mod support;
