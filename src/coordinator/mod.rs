//! The shell that owns sockets and time.

pub mod http;
pub mod metrics;
pub mod service;
pub mod submission;
