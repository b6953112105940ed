//! `lockstep drill`: a pool of real processes with liars in it, runs with known answers, and a table of what came of it.
//!
//! Everything lives below one temporary directory and on the loopback. However the drill ends (its figures, an error, Ctrl-C),
//! its processes are ended and waited for before the directory goes. It knows the public API only, and the liars by what the
//! drill itself made of them.

mod exercise;
mod figures;
mod pool;
mod roster;

use tokio::signal::unix::{SignalKind, signal};

use self::exercise::exercise;
use self::pool::DrillPool;
use self::roster::Roster;
use super::args::DrillArgs;
use super::error::CliError;
use super::exit;
use super::screen::Screen;

/// Starts the pool, exercises it, prints what came of it.
pub fn drill(args: &DrillArgs) -> Result<u8, CliError> {
    // one thread does: the work is done by other processes
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(act(args))
}

async fn act(args: &DrillArgs) -> Result<u8, CliError> {
    let roster = Roster::of(args);
    let mut interrupted = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    // a terminal that closes must not leave the processes behind
    let mut hung_up = signal(SignalKind::hangup()).map_err(CliError::Runtime)?;
    let mut quit = signal(SignalKind::quit()).map_err(CliError::Runtime)?;
    let mut pool = DrillPool::prepare()?;
    let ended = tokio::select! {
        figures = exercise(args, &roster, &mut pool) => Some(figures),
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
        _ = hung_up.recv() => None,
        _ = quit.recv() => None,
    };
    let log = matches!(ended, Some(Err(_))).then(|| pool.last_words());
    pool.stop().await;
    let screen = Screen::new(false);
    if let Some(log) = log.filter(|log| !log.is_empty()) {
        screen.note(&format!("the coordinator's last words: {log}"));
    }
    match ended {
        None => {
            screen.note("interrupted: all processes of the drill are ended");
            Ok(exit::CANCELED)
        }
        Some(figures) => {
            let figures = figures?;
            match args.json {
                true => screen.json(&figures)?,
                false => screen.text(&figures.table())?,
            }
            Ok(0)
        }
    }
}
