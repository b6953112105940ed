//! Types that cross a boundary: between coordinator and agent, and between coordinator and its HTTP callers.
//!
//! No behaviour beyond conversion. Core types are never serialised themselves: what is promised outside is here.

pub mod agent;
pub mod api;
pub mod wire;
