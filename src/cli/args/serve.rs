//! The grammar of `lockstep serve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::parse;
use crate::spec::Verify;
use crate::units::Size;

/// Start a coordinator with embedded workers
///
/// Everything is kept below one directory. The first start makes an admin token and prints a link that signs
/// the web console in with it. SIGTERM or Ctrl-C stops in order: nothing new is taken, what runs may end.
#[derive(Debug, Args)]
#[command(after_long_help = SERVE_HELP)]
pub struct ServeArgs {
    /// Directory that holds everything [default: $XDG_DATA_HOME/lockstep, else ~/.local/share/lockstep]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Embedded workers; with 0 those that join (`lockstep worker`) do all the work [default: 3]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Embedded workers beside them that settle disputes and audits [default: 0]
    #[arg(long, value_name = "N")]
    pub arbiters: Option<u32>,
    /// How results are verified of runs that don't say: standard, high, once or quorum:N [default: standard]
    #[arg(long, value_name = "POLICY")]
    pub verify: Option<Verify>,
    /// Attempts that each worker executes at once [default: cores / workers]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// Memory for all attempts of one worker, such as 4GiB [default: 80 % of the machine's / workers]
    #[arg(long, value_name = "SIZE")]
    pub worker_memory: Option<Size>,
    /// Serve in TLS: certificate chain (PEM), the server's own first; `lockstep cert` makes one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM); both files are read again when they change, and on SIGHUP
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond loopback without TLS: tokens and data travel in the clear
    #[arg(long)]
    pub allow_plaintext: bool,
    /// Let callbacks reach this network (or `loopback`) although it is not public, in plain HTTP too; may be given often
    #[arg(long, value_name = "CIDR")]
    pub callback_allow: Vec<String>,
    /// Trust the receivers of callbacks by these authorities (PEM) too, beside the system's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub callback_ca: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Any setting by its name; may be given often
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse::pair)]
    pub settings: Vec<(String, String)>,
    /// What to log, such as `debug` or `lockstep=trace` [default: $LOCKSTEP_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Read and check the configuration, print the settings that are in force, and stop
    #[arg(long)]
    pub check: bool,
}

const SERVE_HELP: &str = "\
Settings come from the file, then the environment, then flags; the last one wins. Each has one name:
`workers` in the file is LOCKSTEP_WORKERS in the environment and --set workers=… here. `--check` lists them.

Examples:
  lockstep serve
  lockstep serve --data ./pool --workers 4 --slots 2
  lockstep serve --listen 0.0.0.0:7070 --tls-cert tls/server.pem --tls-key tls/server.key
  lockstep serve --set retention_age=7d --set module_max=256MiB";

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}
