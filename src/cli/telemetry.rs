//! The log of `serve`: on standard error, as lines for people or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::args::LogFormat;
use super::error::CliError;

/// What is logged unless somebody says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Starts logging; once per process.
pub fn start(filter: Option<&str>, format: LogFormat) -> Result<(), CliError> {
    let text = filter.unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(text)
        .map_err(|error| CliError::Usage(format!("`{text}` says not what to log: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Escape sequences are for terminals; a journal or a file gets plain lines.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| CliError::Serve(format!("the log cannot be started: {error}")))
}
