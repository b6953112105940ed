//! The command line: `serve`, `worker` and the commands that talk to a server.
//!
//! A client command knows the public API and nothing behind it. What a run gave goes to standard output and error as
//! the guest wrote it; everything that Lockstep has to say goes to standard error, one line each, after `lockstep:`.

mod args;
mod blobs;
mod cache;
mod call;
mod callbacks;
mod cert;
mod client;
mod connection;
mod drill;
mod error;
mod events;
mod exit;
mod inputs;
mod keys;
mod live;
mod modules;
mod parse;
mod receipt;
mod repairs;
mod replay;
mod result;
mod run;
mod runs;
#[cfg(test)]
mod sample;
mod screen;
mod serve;
mod show;
mod show_diff;
mod show_pool;
mod telemetry;
mod terminal;
mod tokens;
mod upload;
mod verify;
mod worker;
mod workers;

use std::io::Write as _;

use clap::{CommandFactory as _, Parser as _};

use self::args::{Cli, Command, CompletionsArgs, ConnectArgs};
use self::client::Client;
use self::connection::Connection;
pub use self::error::CliError;
use self::terminal::plain;
use crate::config::Environment;

/// Parses this process's command line, does what it says, and returns the exit code.
pub fn main(environment: &Environment) -> u8 {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version come this way too; a closed pipe is no reason to complain about either.
            drop(error.print());
            return u8::try_from(error.exit_code()).unwrap_or(exit::USAGE);
        }
    };
    let failed = match &command {
        // The codes below are the guest's own here.
        Command::Run(_) | Command::Call(_) => exit::NOT_DONE,
        Command::Runs(runs) if matches!(runs.command, Some(args::RunsCommand::Wait { .. })) => exit::NOT_DONE,
        _ => exit::FAILED,
    };
    match execute(&command, environment) {
        Ok(code) => code,
        Err(error) => {
            if !error.is_closed_pipe() {
                complain(&error);
            }
            error.exit_code(failed)
        }
    }
}

/// One line for what went wrong, another for what to do.
fn complain(error: &CliError) {
    let mut stderr = std::io::stderr().lock();
    let mut text = plain(&error.to_string());
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let words = plain(&inner.to_string());
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = inner.source();
    }
    drop(writeln!(stderr, "lockstep: {text}"));
    if let Some(advice) = error.advice() {
        drop(writeln!(stderr, "lockstep: {advice}"));
    }
}

fn execute(command: &Command, environment: &Environment) -> Result<u8, CliError> {
    let connect = match command {
        Command::Serve(args) => return serve::serve(args, environment),
        Command::Worker(args) => return worker::worker(args, environment),
        Command::Drill(args) => return drill::drill(args),
        Command::Completions(args) => return completions(args),
        Command::Cert(args) => return cert::cert(args),
        Command::Verify(args) => return verify::verify(args, environment),
        Command::Receipt(args) => &args.connect,
        Command::Keys(args) => &args.connect,
        Command::Callbacks(args) => &args.connect,
        Command::Workspaces(args) => &args.connect,
        Command::Push(args) => &args.connect,
        Command::Modules(args) => &args.connect,
        Command::Run(args) => &args.connect,
        Command::Runs(args) => &args.connect,
        Command::Call(args) => &args.connect,
        Command::Blobs(args) => &args.connect,
        Command::Workers(args) => &args.connect,
        Command::Cache(args) => &args.connect,
        Command::Tokens(args) => &args.connect,
        Command::Repairs(args) => &args.connect,
    };
    let client = client_for(connect, environment)?;
    // One thread does: a client waits for one server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(async {
        match command {
            Command::Push(args) => modules::push(&client, args).await,
            Command::Modules(args) => modules::modules(&client, args).await,
            Command::Run(args) => run::run(&client, args).await,
            Command::Runs(args) => runs::runs(&client, args).await,
            Command::Workers(args) => workers::workers(&client, args).await,
            Command::Repairs(args) => repairs::repairs(&client, args).await,
            Command::Call(args) => call::call(&client, args).await,
            Command::Cache(args) => cache::cache(&client, args).await,
            Command::Blobs(args) => blobs::blobs(&client, args).await,
            Command::Tokens(args) => tokens::tokens(&client, args).await,
            Command::Receipt(args) => receipt::receipt(&client, args).await,
            Command::Keys(args) => keys::keys(&client, args).await,
            Command::Callbacks(args) => callbacks::callbacks(&client, args).await,
            Command::Workspaces(args) => callbacks::workspaces(&client, args).await,
            Command::Serve(_)
            | Command::Worker(_)
            | Command::Drill(_)
            | Command::Completions(_)
            | Command::Cert(_)
            | Command::Verify(_) => Ok(0),
        }
    })
}

fn client_for(connect: &ConnectArgs, environment: &Environment) -> Result<Client, CliError> {
    Client::new(Connection::find(connect, environment)?)
}

fn completions(args: &CompletionsArgs) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lockstep", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(CliError::Output)?;
    Ok(0)
}

/// Lets this process open as many descriptors as it may: the soft limit of a shell or of systemd is 1,024, made for
/// programs that `select`, and connections, runners and inputs need more. Children are bounded by their own jail.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open descriptors stays at {:?}", limit.current);
    }
}
