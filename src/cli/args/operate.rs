//! The grammar of what operators do: workers, tokens, certificates; and of blobs and calls.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::ConnectArgs;
use crate::cli::parse::{self, ModuleRef};
use crate::digest::Digest;
use crate::id::WorkerId;
use crate::spec::{CacheUse, Verify};
use crate::units::Period;

/// List and manage workers
///
/// Without a subcommand: list all that are enrolled, also those that are not connected.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep workers
  lockstep workers drain w2                            before its machine is switched off
  lockstep workers quarantine w2 --why 'bad memory'
  lockstep workers rm w2                               when it will not come back")]
pub struct WorkersArgs {
    #[command(subcommand)]
    pub command: Option<WorkersCommand>,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with workers.
#[derive(Debug, Subcommand)]
pub enum WorkersCommand {
    /// List them
    List,
    /// Show one: identity, class, labels, session, what it holds, what it did
    Show {
        /// The worker, such as w2
        worker: WorkerId,
    },
    /// Give them no new work; what they hold may end
    Drain {
        /// The workers, such as w2
        #[arg(required = true)]
        workers: Vec<WorkerId>,
    },
    /// Give it nothing and don't count its votes until it is readmitted; verify anew what rested on it
    Quarantine {
        /// The worker, such as w2
        worker: WorkerId,
        /// Shown wherever the quarantine is
        #[arg(long)]
        why: String,
    },
    /// Let them work again, after a drain or a quarantine
    Readmit {
        /// The workers, such as w2
        #[arg(required = true)]
        workers: Vec<WorkerId>,
    },
    /// Forget workers that are not connected and will not come back
    Rm {
        /// The workers, such as w2
        #[arg(required = true)]
        workers: Vec<WorkerId>,
    },
}

/// Show what is verified anew, and what came of it
///
/// When a worker is quarantined, the results that would not have been without its votes are verified anew, the weakest first.
/// One that was wrong is corrected: `lockstep runs show` says so, and its earlier revision stays readable.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep repairs
  lockstep runs show ID --revision 1")]
pub struct RepairsArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// List, make and revoke access tokens
///
/// Without a subcommand: list them. Needs a token with the scope `admin`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep tokens
  lockstep tokens create --name ci --scope submit --expires 30d
  lockstep tokens create --name shed --scope worker                 for a machine of your own
  lockstep tokens create --name ada --scope worker --domain ada    for Ada's machines
  lockstep tokens revoke 3")]
pub struct TokensArgs {
    #[command(subcommand)]
    pub command: Option<TokensCommand>,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// List them, without their secrets
    List,
    /// Make one and print its secret, which is shown this once
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
        /// What it allows; may be given often
        #[arg(long = "scope", value_enum, required = true, value_name = "SCOPE")]
        scopes: Vec<ScopeArg>,
        /// With --scope worker: trust domain of the workers that enrol with it, such as `ada` or `rack-2`. They are somebody
        /// else's then, unless --owned says that they are yours [default: local, your own]
        #[arg(long)]
        domain: Option<String>,
        /// With --scope worker: they are your own machines; of a domain of their own they count as one (a rack, a site)
        #[arg(long)]
        owned: bool,
        /// With --scope worker: they are somebody else's machines
        #[arg(long, conflicts_with_all = ["owned", "arbiter"])]
        foreign: bool,
        /// With --scope worker: they are trusted executors of yours, which settle disputes and audits
        #[arg(long)]
        arbiter: bool,
        /// Period after which it ends, such as 7d [default: never]
        #[arg(long, value_name = "PERIOD")]
        expires: Option<Period>,
    },
    /// Revoke tokens, at once
    Revoke {
        /// Their numbers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<u32>,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// Everything that people do, tokens included
    Admin,
    /// Upload modules and inputs, submit runs; includes `read`
    Submit,
    /// Read everything
    Read,
    /// Enrol workers, and nothing else
    Worker,
}

/// Upload and download inputs and outputs by their digest
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  lockstep blobs put photos/*.jpg
  lockstep blobs get sha256:2cf24dba… -o photo.jpg")]
pub struct BlobsArgs {
    #[command(subcommand)]
    pub command: BlobsCommand,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with blobs.
#[derive(Debug, Subcommand)]
pub enum BlobsCommand {
    /// Upload files, unless the server has them, and print their digests
    Put {
        /// Files to upload
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Download a blob; its bytes are checked against the digest
    Get {
        /// The whole digest
        digest: Digest,
        /// File to write; `-` is standard output
        #[arg(short, long, value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
        output: PathBuf,
    },
}

/// Call a module: standard input in, the agreed standard output out
///
/// One request and no files: for scripts that want nothing but the answer. Exit codes are those of `lockstep run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo 'to be or not to be' | lockstep call wordcount.wasm -- -n 2
  lockstep call 2cf24dba --entry fib 30")]
pub struct CallArgs {
    /// File of the module, or digest of an uploaded one, or the first digits of it
    #[arg(value_name = "FILE|DIGEST", value_hint = ValueHint::FilePath)]
    pub module: ModuleRef,
    /// Arguments of the guest, after `--` where they begin with a dash; for a plain function its numbers
    #[arg(value_name = "ARGS")]
    pub args: Vec<String>,
    /// Exported function to call [default: _start]
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Variable of the guest's environment, which is empty otherwise; may be given often
    #[arg(short, long = "env", value_name = "K=V", value_parser = parse::pair)]
    pub env: Vec<(String, String)>,
    /// How it is verified: standard (error at most 0.001), high (0.000001), quorum:N or once [default: the module's, the
    /// workspace's, or the pool's]
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
    /// How long to wait for the answer [default: 60s]
    #[arg(long, value_name = "PERIOD")]
    pub wait: Option<Period>,
    /// Keep the run in memory only: faster, and gone when the server restarts
    #[arg(long)]
    pub no_durable: bool,
    /// Whether a verified result of an equal run may answer: use, refresh (execute anew, and replace it unless
    /// it was verified for more) or off [default: use]
    #[arg(long, value_name = "HOW")]
    pub cache: Option<CacheUse>,
    /// Leave terminal escape sequences in the guest's output when it goes to a terminal
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Make a private certificate authority and a server certificate
///
/// For people who have none. Makes ca.pem, ca.key, server.pem and server.key in a directory and says how to go on. With
/// a CA in that directory it issues one more certificate. Nothing is overwritten. Needs no server.
#[derive(Debug, Args)]
#[command(after_help = CERT_HELP)]
pub struct CertArgs {
    /// Directory for the files; made if it is not there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Name or address by which the server is reached, beside localhost and this machine's name; may be given often
    #[arg(long = "name", value_name = "HOST|IP")]
    pub names: Vec<String>,
    /// How long the server certificate is valid, in days
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Name of the certificate's files, for a CA that serves several machines
    #[arg(long, value_name = "NAME", default_value = "server")]
    pub file: String,
    /// Replace the certificate and its key by new ones of the same CA; a running server takes them up by itself
    #[arg(long)]
    pub renew: bool,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

const CERT_HELP: &str = "\
Keep ca.key where nobody else can read it, not on the server: who has it can stand in for every server of the pool.
ca.pem is public: workers and clients get it.

Examples:
  lockstep cert --out tls --name pool.example.org --name 10.0.0.5
  lockstep serve --listen 0.0.0.0:7070 --tls-cert tls/server.pem --tls-key tls/server.key
  lockstep runs --server https://pool.example.org:7070 --ca tls/ca.pem
  lockstep cert --out tls --name pool.example.org --name 10.0.0.5 --renew";
