//! Integration: the real binary with real runners, on a free port, over a temporary folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, helpers included")]

mod agent;
mod api;
mod api_compare;
mod api_figures;
mod api_raw;
mod bad_input;
mod cache;
mod callbacks;
mod cli;
mod compiler;
mod deaths;
mod dependents;
mod deploy;
mod disk_full;
mod drill;
mod limits;
mod memory;
mod operate;
mod pool;
mod portable;
mod receipt;
mod recovery;
mod remote;
mod repair;
mod settled;
mod slow_readers;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod verification;
