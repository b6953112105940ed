//! The grammar of receipts: fetching one, checking one, and the keys that sign them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::ConnectArgs;
use crate::id::RunId;
use crate::receipt::PublicKey;
use crate::units::Period;

/// Fetch the receipt of a run: the signed certificate of its result
///
/// Anybody can check it with `lockstep verify`, without asking this server. A run has one when it has ended with a result and
/// was not submitted with --no-durable.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep receipt ID -o run.receipt.json
  lockstep receipt ID | lockstep verify - --keys keys.json")]
pub struct ReceiptArgs {
    /// The run
    pub id: RunId,
    /// Of this revision of its final [default: the present one]
    #[arg(long, value_name = "N")]
    pub revision: Option<u32>,
    /// File to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Check a receipt, offline
///
/// Checks the coordinator's signature, the signature of each worker over its vote, and that the votes satisfy the rule that
/// decided; says what that proves and what it does not. Name the key that you trust: without one a receipt proves only that
/// somebody made it. Nothing is asked over the network, unless --fetch says so.
#[derive(Debug, Args)]
#[command(after_long_help = VERIFY_HELP)]
pub struct VerifyArgs {
    /// The receipt; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Public key of a coordinator that you trust, as `ed25519:…`; may be given often
    #[arg(long = "key", value_name = "PUBKEY", conflicts_with = "any_key")]
    pub keys: Vec<PublicKey>,
    /// Public keys that you trust, as `lockstep keys --json` prints them
    #[arg(long = "keys", value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "any_key")]
    pub key_file: Option<PathBuf>,
    /// Take whatever key signed it: shows only that it is consistent in itself
    #[arg(long)]
    pub any_key: bool,
    /// Execute the run again on this machine with this module, in a sandbox, and compare the results
    #[arg(long, value_name = "MODULE", value_hint = ValueHint::FilePath)]
    pub replay: Option<PathBuf>,
    /// With --replay: the run spec (JSON), where it was too long for the receipt
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "replay")]
    pub spec: Option<PathBuf>,
    /// With --replay: directory with the inputs; they are found by what they contain, whatever their names
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "replay")]
    pub blobs: Option<PathBuf>,
    /// With --replay: download inputs that are missing from the server
    #[arg(long, requires = "replay")]
    pub fetch: bool,
    /// With --replay: wall time after which it is given up
    #[arg(long, value_name = "PERIOD", default_value = "10m", requires = "replay")]
    pub timeout: Period,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

const VERIFY_HELP: &str = "\
Exit codes:
  0  it is valid, and signed by a key that you trust (and the replay agrees)
  1  it is not valid, or the run cannot be executed again here
  2  wrong usage
  3  it is valid, and you did not say that you trust the key that signed it
  4  it is valid, and the replay gave another result

Examples:
  lockstep keys --json > keys.json                     once, from the coordinator itself
  lockstep verify run.receipt.json --keys keys.json
  lockstep verify run.receipt.json --key ed25519:d75a… --replay app.wasm --blobs ./inputs";

/// Show or replace the keys that the coordinator signs receipts with
///
/// Without a subcommand: list them, the newest first. Old ones stay listed, so that old receipts can be checked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lockstep keys --json > keys.json\n  lockstep keys rotate")]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: Option<KeysCommand>,
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List them
    List,
    /// Sign with a new one from now on; receipts of before stay valid. Needs a token with the scope `admin`
    Rotate,
}
