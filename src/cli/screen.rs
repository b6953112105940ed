//! Own standard output and error: results to the one, everything about them to the other.
//!
//! Invariant: guest bytes reach a pipe or a file unchanged, and a terminal only through the sanitizer unless asked for.

use std::io::IsTerminal as _;

use serde::Serialize;

use super::error::CliError;
use super::terminal::{Sanitizer, plain};
use crate::protocol::api::StreamName;

/// Where a command writes.
#[derive(Debug)]
pub struct Screen {
    stdout: Option<Sanitizer>,
    stderr: Option<Sanitizer>,
}

impl Screen {
    /// Looks whether there are terminals; `raw` leaves escape sequences in what goes there.
    pub fn new(raw: bool) -> Screen {
        let sanitizer = |is_terminal: bool| (is_terminal && !raw).then(Sanitizer::default);
        Screen {
            stdout: sanitizer(std::io::stdout().is_terminal()),
            stderr: sanitizer(std::io::stderr().is_terminal()),
        }
    }

    /// Writes what a guest wrote.
    pub fn guest(&mut self, stream: StreamName, bytes: &[u8]) -> Result<(), CliError> {
        let sanitizer = match stream {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
        };
        let cleaned = sanitizer.as_mut().map(|sanitizer| sanitizer.clean(bytes));
        let bytes = cleaned.as_ref().map_or(bytes, String::as_bytes);
        match stream {
            StreamName::Stdout => write(&mut std::io::stdout().lock(), bytes),
            StreamName::Stderr => write(&mut std::io::stderr().lock(), bytes),
        }
    }

    /// Writes a result of our own.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        write(&mut std::io::stdout().lock(), text.as_bytes())
    }

    /// Writes a result as JSON, on lines of its own.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<(), CliError> {
        let mut text = serde_json::to_string_pretty(value).map_err(|error| CliError::Output(error.into()))?;
        text.push('\n');
        self.text(&text)
    }

    /// Says something about a result: one line on standard error.
    pub fn note(&self, text: &str) {
        // A broken standard error must not cost the result.
        drop(write(&mut std::io::stderr().lock(), format!("lockstep: {}\n", plain(text)).as_bytes()));
    }

    /// Says something longer, already cleaned.
    pub fn notes(&self, text: &str) {
        drop(write(&mut std::io::stderr().lock(), text.as_bytes()));
    }
}

fn write(to: &mut impl std::io::Write, bytes: &[u8]) -> Result<(), CliError> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(CliError::Output)
}
