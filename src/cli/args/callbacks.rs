//! The grammar of callbacks and of workspaces.

use clap::{Args, Subcommand};

use super::ConnectArgs;
use crate::cli::parse::{self, VerifyOrPool};
use crate::id::RunId;

/// Show how callbacks went, and what they are signed with
///
/// `lockstep run --callback URL` asks for one: a signed POST when the run is final.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  lockstep run app.wasm --callback https://ci.example.org/hooks/lockstep --detach
  lockstep callbacks list ID
  lockstep callbacks redeliver ID
  lockstep callbacks secret                            what a receiver checks the signature with")]
pub struct CallbacksArgs {
    #[command(subcommand)]
    pub command: CallbacksCommand,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with callbacks.
#[derive(Debug, Subcommand)]
pub enum CallbacksCommand {
    /// List those of a run: tries, how the last one ended, when the next one comes
    List {
        /// The run
        id: RunId,
    },
    /// Deliver a run's callback again, however it went before
    Redeliver {
        /// The run
        id: RunId,
        /// The revision to tell of [default: the newest]
        #[arg(long, value_name = "N")]
        revision: Option<u32>,
    },
    /// Print the secret that callbacks are signed with. Needs a token with the scope `admin`
    Secret {
        /// Make a new one first; the old one signs too for a day
        #[arg(long)]
        rotate: bool,
    },
}

/// Show or settle what holds for all runs of the workspace
///
/// Without a subcommand: show the workspace of the token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lockstep workspaces\n  lockstep workspaces verify standard")]
pub struct WorkspacesArgs {
    #[command(subcommand)]
    pub command: Option<WorkspacesCommand>,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with a workspace.
#[derive(Debug, Subcommand)]
pub enum WorkspacesCommand {
    /// Show it
    Show,
    /// Say how its runs are verified that don't ask for anything, and whose module doesn't either: standard, high, once,
    /// quorum:N, or pool
    Verify {
        /// The policy; `pool` leaves it to the pool
        #[arg(value_parser = parse::verify_or_pool)]
        policy: VerifyOrPool,
    },
}
