//! Why a command failed, in one line, and what to do about it.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

use super::exit;
use super::terminal::plain;
use crate::config::ConfigError;
use crate::digest::Digest;
use crate::tls::{Refusal, TlsError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is well-formed but makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration of `serve` is not accepted.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The coordinator did not start, or had to end.
    #[error(transparent)]
    Coordinator(#[from] crate::coordinator::CoordinatorError),
    /// The server answered with a problem.
    #[error("{0}")]
    Problem(Box<ProblemText>),
    /// What answered does not speak the API.
    #[error("{server} answered {status} without problem details: is it a Lockstep server?")]
    NotLockstep {
        /// Who.
        server: String,
        /// HTTP status.
        status: u16,
    },
    /// Nobody listens there.
    #[error("no server answers at {server}")]
    Unreachable {
        /// Where.
        server: String,
        /// Whether that is this machine's own.
        local: bool,
    },
    /// Client and server don't come together in TLS.
    #[error("no safe connection to {server}: {refusal}")]
    Handshake {
        /// Where.
        server: String,
        /// Why not.
        refusal: Refusal,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection broke, or the answer was not what the API promises.
    #[error("{doing} failed: {why}")]
    Broken {
        /// What was being done.
        doing: &'static str,
        /// The innermost reason.
        why: String,
    },
    /// A local file or directory.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory that cannot be packed.
    #[error("cannot pack `{}`: {why}", path.display())]
    Pack {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// What arrived does not hash to its name.
    #[error("{what} arrived damaged: expected {expected}, got {actual}")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// Its name.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// Neither a file nor a digest that the server has.
    #[error("there is no file `{0}`, and it is no digest of a module on the server")]
    NoModule(String),
    /// Several modules begin with these digits.
    #[error("`{prefix}` is ambiguous: {count} modules begin with it")]
    AmbiguousModule {
        /// The digits.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// The module was refused after its upload.
    #[error("the module {digest:?} was refused ({code}): {text}")]
    Refused {
        /// Which.
        digest: Digest,
        /// Stable code.
        code: String,
        /// Why.
        text: String,
    },
    /// The run is open, and the command needs a result; or its result has no such output.
    #[error("{0}")]
    NoOutput(String),
    /// Own standard output or error.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The asynchronous runtime did not start.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// A file that should be a receipt.
    #[error("`{}` is no valid receipt: {source}", path.display())]
    Receipt {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: crate::receipt::ReceiptError,
    },
    /// A run of a receipt could not be executed again; that says nothing about its result.
    #[error("the run cannot be executed again here: {0}")]
    Replay(String),
    /// `serve` failed.
    #[error("{0}")]
    Serve(String),
}

/// Problem details, read leniently: a newer server may have codes and fields that this client does not know.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{}{} ({code})", pointer.as_ref().map(|at| format!("{}: ", plain(at))).unwrap_or_default(), plain(detail))]
pub struct ProblemText {
    /// What programs tell errors apart by.
    pub code: String,
    /// What happened and what to do.
    #[serde(default)]
    pub detail: String,
    /// Where in the request.
    #[serde(default)]
    pub pointer: Option<String>,
    /// Names the request in the server's log.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The run that it is about, as it came: a newer server may show more of it.
    #[serde(default)]
    pub run: Option<Box<serde_json::value::RawValue>>,
}

impl CliError {
    /// Wraps an error of a local file.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CliError {
        let path = path.into();
        move |source| CliError::File { doing, path, source }
    }

    /// The stable code, if the server answered with a problem.
    pub fn code(&self) -> Option<&str> {
        match self {
            CliError::Problem(problem) => Some(&problem.code),
            _ => None,
        }
    }

    /// What the user can do about it, where the error itself does not say it.
    pub fn advice(&self) -> Option<String> {
        match self {
            CliError::Unreachable { local: true, .. } => {
                Some("start it with `lockstep serve`, or name another one with --server".to_owned())
            }
            CliError::Unreachable { local: false, .. } => {
                Some("check the address in --server or LOCKSTEP_SERVER, and that the server runs".to_owned())
            }
            CliError::Handshake { refusal, .. } => refusal.advice().map(str::to_owned),
            CliError::Problem(problem) => match problem.code.as_str() {
                "unauthorized" => Some(
                    "give a token with --token or LOCKSTEP_TOKEN; the admin token is in the file `token` of the \
                     server's data directory (--data names it)"
                        .to_owned(),
                ),
                "internal" => problem.request_id.as_ref().map(|id| format!("the server's log has request {}", plain(id))),
                _ => None,
            },
            CliError::NoModule(_) => Some("`lockstep modules` lists those that it has".to_owned()),
            CliError::AmbiguousModule { .. } => Some("give more digits".to_owned()),
            _ => None,
        }
    }

    /// Exit code; `failed` is the command's own for everything but wrong usage.
    pub fn exit_code(&self, failed: u8) -> u8 {
        match self {
            CliError::Usage(_) | CliError::Config(_) | CliError::Tls(_) => exit::USAGE,
            _ => failed,
        }
    }

    /// Whether the reader of our output went away, which needs no message.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> CliError {
        CliError::Problem(Box::new(serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn a_problem_is_one_line_with_its_code_and_place() {
        let error = problem(
            r#"{"type":"urn:x","status":422,"code":"invalid_field","pointer":"/seed","detail":"too\nlarge","new":1}"#,
        );
        assert_eq!(error.to_string(), "/seed: too large (invalid_field)");
        assert_eq!(error.advice(), None);
        let error = problem(r#"{"code":"a_newer_code","detail":"words"}"#);
        assert_eq!(error.to_string(), "words (a_newer_code)");
    }

    #[test]
    fn errors_that_a_user_can_mend_say_how() {
        let local = CliError::Unreachable { server: "http://127.0.0.1:7070".into(), local: true };
        assert!(local.advice().unwrap().contains("lockstep serve"));
        let unauthorized = problem(r#"{"code":"unauthorized","detail":"a valid token is needed"}"#);
        assert!(unauthorized.advice().unwrap().contains("LOCKSTEP_TOKEN"));
        let internal = problem(r#"{"code":"internal","detail":"failed","request_id":"r-7"}"#);
        assert!(internal.advice().unwrap().contains("r-7"));
    }

    #[test]
    fn wrong_usage_and_a_closed_pipe_are_told_apart() {
        assert_eq!(CliError::Usage(String::new()).exit_code(exit::NOT_DONE), 2);
        assert_eq!(CliError::NoModule("x".into()).exit_code(exit::NOT_DONE), 119);
        assert!(CliError::Output(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
    }
}
