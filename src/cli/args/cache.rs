//! The grammar of `lockstep cache`.

use clap::{Args, Subcommand};

use super::ConnectArgs;
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};

/// Show and withdraw cached results
///
/// A verified result answers equal runs at once. Without a subcommand: show how many there are and how often they did.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep cache
  lockstep cache withdraw --module sha256:2cf2…
  lockstep cache withdraw --worker w2 --after 2026-11-01T00:00:00Z
  lockstep cache withdraw --all")]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: Option<CacheCommand>,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show its figures
    Stats,
    /// Let results answer nothing any more that meet all that is named
    ///
    /// Runs that were answered before stay as they are. Needs a token with the scope `admin`.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Withdraw {
        /// All of them
        #[arg(long, group = "what", conflicts_with_all = ["run", "worker", "class", "module", "after", "before"])]
        all: bool,
        /// That this run computed
        #[arg(long, value_name = "ID", group = "what")]
        run: Option<RunId>,
        /// That this worker voted for, such as w2
        #[arg(long, group = "what")]
        worker: Option<WorkerId>,
        /// Of this equivalence class
        #[arg(long, value_name = "DIGEST", group = "what")]
        class: Option<Digest>,
        /// Of this module
        #[arg(long, value_name = "DIGEST", group = "what")]
        module: Option<Digest>,
        /// Computed at or after this time (RFC 3339)
        #[arg(long, value_name = "TIME", group = "what")]
        after: Option<jiff::Timestamp>,
        /// Computed before this time (RFC 3339)
        #[arg(long, value_name = "TIME", group = "what")]
        before: Option<jiff::Timestamp>,
    },
}
