//! The command line's grammar: clap types and the texts of `--help`, nothing that acts.

mod cache;
mod callbacks;
mod drill;
mod operate;
mod receipts;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use self::cache::{CacheArgs, CacheCommand};
pub use self::callbacks::{CallbacksArgs, CallbacksCommand, WorkspacesArgs, WorkspacesCommand};
pub use self::drill::{Behaviour, DrillArgs};
pub use self::operate::{
    BlobsArgs, BlobsCommand, CallArgs, CertArgs, RepairsArgs, ScopeArg, TokensArgs, TokensCommand,
    WorkersArgs, WorkersCommand,
};
pub use self::receipts::{KeysArgs, KeysCommand, ReceiptArgs, VerifyArgs};
pub use self::serve::{LogFormat, ServeArgs};
use super::parse::{self, DirInput, FileInput, ModuleRef, VerifyOrPool};
use super::worker::WorkerArgs;
use crate::digest::Digest;
use crate::id::RunId;
use crate::protocol::api::Clock;
use crate::spec::{CacheUse, Profile, Verify};
use crate::units::{Period, Size};

/// A self-hosted compute pool for WebAssembly with redundant, verified execution
///
/// Several workers compute each run, and what comes back is what they agreed on, bit for bit.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, arg_required_else_help = true)]
#[command(after_help = FIRST_STEPS, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  lockstep serve                                start a pool on this machine
  lockstep run app.wasm -- hello < input.txt    upload, execute, print what was agreed on
  lockstep runs show ID                         how it was decided";

/// One of the commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(Box<ServeArgs>),
    Worker(Box<WorkerArgs>),
    Drill(DrillArgs),
    Push(PushArgs),
    Modules(ModulesArgs),
    Run(Box<RunArgs>),
    Runs(RunsArgs),
    Receipt(ReceiptArgs),
    Verify(Box<VerifyArgs>),
    Call(CallArgs),
    Blobs(BlobsArgs),
    Workers(WorkersArgs),
    Cache(CacheArgs),
    Repairs(RepairsArgs),
    Tokens(TokensArgs),
    Keys(KeysArgs),
    Callbacks(CallbacksArgs),
    Workspaces(WorkspacesArgs),
    Cert(CertArgs),
    Completions(CompletionsArgs),
}

/// Where the server is: common to all client commands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Address of the server [default: $LOCKSTEP_SERVER, else the one that runs on this machine]
    #[arg(long, global = true, value_name = "URL", value_hint = ValueHint::Url)]
    pub server: Option<String>,
    /// Access token [default: $LOCKSTEP_TOKEN, else the one in the data directory of this machine's server]
    #[arg(long, global = true, value_name = "TOKEN", hide_default_value = true)]
    pub token: Option<String>,
    /// Data directory of the server on this machine [default: $LOCKSTEP_DATA, else ~/.local/share/lockstep]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// CA certificate (PEM) to trust beside those of the system, for https:// [default: $LOCKSTEP_CA]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// Print JSON, as the API has it, instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// Upload modules
///
/// A module is named by the SHA-256 of its bytes; one that the server has is not sent again. Prints digest,
/// kind and whether results can be verified, and waits until runs may start.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lockstep push target/wasm32-wasip1/release/*.wasm")]
pub struct PushArgs {
    /// Modules to upload
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Name for people (with one file) [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Return as soon as the upload is acknowledged; runs wait for the compilation by themselves
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// List and manage modules
///
/// Without a subcommand: list them, newest first. A module is given as its digest or the first digits of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lockstep modules\n  lockstep modules show 2cf24dba")]
pub struct ModulesArgs {
    #[command(subcommand)]
    pub command: Option<ModulesCommand>,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with a module.
#[derive(Debug, Subcommand)]
pub enum ModulesCommand {
    /// List them, newest first
    List,
    /// Show what the analysis found: kind, imports, exports, memories, whether results can be verified
    Show {
        /// Digest, or its first digits
        module: ModuleRef,
    },
    /// Delete modules that no open run uses
    Rm {
        /// Digest, or its first digits
        #[arg(required = true)]
        modules: Vec<ModuleRef>,
    },
    /// Take a module out of service: nobody may run it until it is readmitted
    Quarantine {
        /// Digest, or its first digits
        module: ModuleRef,
        /// Shown to everybody who wants to run it
        #[arg(long)]
        why: String,
    },
    /// Say how its runs are verified that don't ask for anything: standard, high, once, quorum:N, or pool
    Verify {
        /// Digest, or its first digits
        module: ModuleRef,
        /// The policy; `pool` leaves it to the pool
        #[arg(value_parser = parse::verify_or_pool)]
        policy: VerifyOrPool,
    },
    /// Put a quarantined module back into service, and take one that gave different results for deterministic again
    Readmit {
        /// Digest, or its first digits
        module: ModuleRef,
    },
    /// Write a module's bytes to a file; they are checked against the digest
    Download {
        /// Digest, or its first digits
        module: ModuleRef,
        /// File to write; `-` is standard output
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: PathBuf,
    },
}

/// Execute a module and print what its voters agreed on
///
/// Uploads the module if it is a file that the server lacks, submits the run, waits, writes the verified output to
/// its own standard output and error, and exits with the guest's own code. Ctrl-C cancels the run.
#[derive(Debug, Args)]
#[command(after_long_help = RUN_HELP)]
pub struct RunArgs {
    /// File of the module, or digest of an uploaded one, or the first digits of it
    #[arg(value_name = "FILE|DIGEST", value_hint = ValueHint::FilePath)]
    pub module: ModuleRef,
    /// Arguments of the guest, after `--` where they begin with a dash; for a plain function its numbers
    #[arg(value_name = "ARGS")]
    pub args: Vec<String>,
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

const RUN_HELP: &str = "\
Exit codes:
  the guest's own code when it exited (above 255: 255); 0 when a function returned
    2  wrong usage
  118  the run was canceled
  119  Lockstep could not do it: no server, refused, a file that cannot be read
  120  the guest trapped
  121  the guest ran out of fuel
  122  the guest passed its output limit
  123  no quorum: the votes never satisfied the policy
  124  timed out, or its deadline passed
  125  crashed, poisoned, lost, or the module was refused after all

Examples:
  lockstep run wordcount.wasm < book.txt
  lockstep run app.wasm --quorum 3 --explain -- --verbose
  lockstep run primes.wasm --entry count 100000
  lockstep run convert.wasm --dir /data=./photos --out ./converted
  id=$(lockstep run long.wasm --detach); lockstep runs wait $id";

/// What the guest can observe.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Exported function to call [default: _start]
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Variable of the guest's environment, which is empty otherwise; may be given often
    #[arg(short, long = "env", value_name = "K=V", value_parser = parse::pair)]
    pub env: Vec<(String, String)>,
    /// Put a local file at an absolute path of the guest, read-only; may be given often
    #[arg(long = "file", value_name = "GUEST=LOCAL")]
    pub files: Vec<FileInput>,
    /// Put a local directory at an absolute path of the guest, read-only; may be given often
    #[arg(long = "dir", value_name = "GUEST=LOCALDIR")]
    pub dirs: Vec<DirInput>,
    /// Standard input from this file; `-` reads it from the terminal too [default: what is piped in]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub stdin: Option<PathBuf>,
    /// Where the virtual clock starts: RFC 3339, or `now` [default: 2026-01-01T00:00:00Z]
    #[arg(long, value_name = "TIME")]
    pub clock: Option<Clock>,
    /// Seed of every random source [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Semantics: `det-1`, or `det-1-portable`, whose results are the same on other CPUs [default: det-1]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
}

/// Bounds on the guest.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// All memories and tables together [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Fuel: an exact, deterministic bound on the work [default: none]
    #[arg(long, value_name = "N")]
    pub fuel: Option<u64>,
    /// Standard output and error together [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub output_limit: Option<Size>,
    /// Contents of all files that the guest writes [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub file_limit: Option<Size>,
}

/// How the run is carried out.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// How it is verified: standard (error at most 0.001), high (0.000001), quorum:N or once [default: as the module,
    /// the workspace or the pool says]
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["quorum", "once"])]
    pub verify: Option<Verify>,
    /// So many workers compute it; the majority of equal results wins
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=15))]
    pub quorum: Option<u64>,
    /// One worker computes it and nothing is compared
    #[arg(long, conflicts_with = "quorum")]
    pub once: bool,
    /// Wall time of one attempt, such as 30s [default: 30s]
    #[arg(long, value_name = "PERIOD")]
    pub timeout: Option<Period>,
    /// Wall time of the whole run from its submission [default: none]
    #[arg(long, value_name = "PERIOD")]
    pub deadline: Option<Period>,
    /// What a crash, a timeout or a lost worker leads to [default: reassign]
    #[arg(long, value_enum)]
    pub retry: Option<RetryArg>,
    /// Timed-out attempts after which the run is final [default: 3]
    #[arg(long, value_name = "N")]
    pub attempts_max: Option<u64>,
    /// Only workers with this label; may be given often
    #[arg(long = "label", value_name = "K=V", value_parser = parse::pair)]
    pub labels: Vec<(String, String)>,
    /// Higher goes first, -128 to 127 [default: 0]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub priority: Option<i64>,
    /// Keep the run in memory only: faster, and gone when the server restarts
    #[arg(long, conflicts_with_all = ["idempotency_key", "detach", "callback"])]
    pub no_durable: bool,
    /// Whether a verified result of an equal run may answer: use, refresh (execute anew, and replace it unless
    /// it was verified for more) or off [default: use]
    #[arg(long, value_name = "HOW")]
    pub cache: Option<CacheUse>,
    /// Tell this URL when the run is final, with a signed POST
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub callback: Option<String>,
    /// A repeated submission with the same key is the same run [default: a new random key]
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// What a fault leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RetryArg {
    /// It runs again on another worker
    Reassign,
    /// Each voter's place is tried at most once
    Never,
}

/// What becomes of the result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Stream the output as it is written, unverified; says so when a rerun starts anew
    #[arg(long, conflicts_with_all = ["detach", "no_durable", "json"])]
    pub live: bool,
    /// Download the files that the guest left under /out into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "detach")]
    pub out: Option<PathBuf>,
    /// Print the run's id once it is accepted, and don't wait
    #[arg(long)]
    pub detach: bool,
    /// Print attempts, votes and every decision to standard error
    #[arg(long, conflicts_with = "detach")]
    pub explain: bool,
    /// Leave terminal escape sequences in the guest's output when it goes to a terminal
    #[arg(long)]
    pub raw: bool,
}

/// List, follow and manage runs
///
/// Without a subcommand: list them, newest first.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lockstep runs --state failed\n  lockstep runs show ID\n  lockstep runs wait ID"
)]
pub struct RunsArgs {
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
    #[command(flatten)]
    pub filter: RunsFilter,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Which runs to list.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Filter")]
pub struct RunsFilter {
    /// Only runs in this state
    #[arg(long, value_enum)]
    pub state: Option<StateArg>,
    /// Only runs of this module: digest, or its first digits
    #[arg(long)]
    pub module: Option<ModuleRef>,
    /// Only runs with this verdict; `agreed` means compared, `vouched` that one trusted worker stood alone
    #[arg(long, value_enum)]
    pub verdict: Option<VerdictArg>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// A state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    Queued,
    Running,
    Succeeded,
    Failed,
    Canceled,
}

/// What comparing the votes of a run said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    Pending,
    Agreed,
    Vouched,
    Unchecked,
    Disputed,
    Nondeterministic,
}

/// What to do with a run.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List them, newest first
    List(RunsFilter),
    /// Show a run: outcome, verdict, attempts with their votes, every decision
    Show {
        /// The run
        id: RunId,
        /// As its final was in this revision, before it was corrected [default: as it is]
        #[arg(long, value_name = "N")]
        revision: Option<u32>,
    },
    /// Print the verified standard output
    Stdout {
        /// The run
        id: RunId,
        /// Leave terminal escape sequences in it
        #[arg(long)]
        raw: bool,
    },
    /// Print the verified standard error
    Stderr {
        /// The run
        id: RunId,
        /// Leave terminal escape sequences in it
        #[arg(long)]
        raw: bool,
    },
    /// Print both outputs, each where it belongs
    Logs {
        /// The run
        id: RunId,
        /// Leave terminal escape sequences in them
        #[arg(long)]
        raw: bool,
    },
    /// Download the files that the guest left under /out
    Files {
        /// The run
        id: RunId,
        /// Directory to write them to [default: only list them]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
    /// Two results of a run side by side: the first byte that differs, why one of them won, who was blamed
    Diff {
        /// The run
        id: RunId,
        /// Number of an attempt [default: the winner's]
        #[arg(long, value_name = "N", requires = "right")]
        left: Option<u32>,
        /// Number of another attempt [default: the first that differs]
        #[arg(long, value_name = "N", requires = "left")]
        right: Option<u32>,
        /// `stdout`, `stderr` or `file:/out/PATH` [default: the first one that differs]
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
        /// A revision, with the attempts that it had [default: the present one]
        #[arg(long, value_name = "N")]
        revision: Option<u32>,
    },
    /// Wait for the end; print and exit as `lockstep run` does
    Wait {
        /// The run
        id: RunId,
        #[command(flatten)]
        output: WaitArgs,
    },
    /// Follow the decisions about a run until its end
    Watch {
        /// The run
        id: RunId,
    },
    /// Cancel runs; one that has ended stays as it is
    Cancel {
        /// The runs
        #[arg(required = true)]
        ids: Vec<RunId>,
    },
    /// Submit the same run once more and print the new one's id
    Rerun {
        /// The run to repeat
        id: RunId,
    },
}

/// What becomes of the result of a run that was waited for.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Download the files that the guest left under /out into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Print attempts, votes and every decision to standard error
    #[arg(long)]
    pub explain: bool,
    /// Leave terminal escape sequences in the guest's output when it goes to a terminal
    #[arg(long)]
    pub raw: bool,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  lockstep completions bash > ~/.local/share/bash-completion/completions/lockstep"
)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

impl ModuleRef {
    /// The digest, if it was given whole.
    pub fn digest(&self) -> Option<Digest> {
        self.0.parse().ok()
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
