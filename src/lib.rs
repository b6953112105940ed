//! Lockstep: a self-hosted compute pool for WebAssembly with redundant, verified execution.
//!
//! The map, in reading order: the vocabulary ([`digest`], [`id`], [`spec`], [`result`]), the rules ([`core`]), the
//! execution of guests ([`sandbox`], [`runner`], [`compiler`], [`agent`]), what is kept ([`store`], [`blobs`]), what is said
//! ([`protocol`]) and signed ([`receipt`]), and the shell that owns sockets and time ([`coordinator`]). What other parts must
//! not creep into is a crate of its own below `crates/`. `ARCHITECTURE.md` tells the whole.

pub use vocabulary::{class, digest, id, network, result, spec, tree, units};

pub use lockstep_core as core;

pub use sandbox;

pub use jail;

pub mod tls;

pub mod compiler;

pub mod receipt;

pub mod protocol;

pub mod runner;

pub mod agent;

pub mod store;

pub mod blobs;

pub mod coordinator;

pub mod config;

pub mod cli;
