//! Lockstep: a self-hosted compute pool for WebAssembly with redundant, verified execution.
//!
//! The map, in reading order: the vocabulary ([`digest`], [`id`], [`spec`], [`result`]), the rules ([`core`]), the
//! execution of guests ([`sandbox`], [`runner`], [`compiler`], [`agent`]), what is kept ([`store`], [`blobs`]), what is said
//! ([`protocol`]) and signed ([`receipt`]), and the shell that owns sockets and time ([`coordinator`]). `ARCHITECTURE.md` tells the whole.

pub mod digest;
pub mod id;
pub mod result;
pub mod spec;
pub mod tree;
pub mod units;

pub mod core;

pub mod sandbox;

pub mod jail;

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
