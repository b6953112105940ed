//! Sends local bytes up: modules and input blobs, hashed first, skipped when the server has them, with a progress bar
//! when a person watches.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use tokio_util::io::ReaderStream;

use super::client::{Client, Upload};
use super::error::CliError;
use super::terminal::plain;
use crate::digest::{Digest, Hasher};
use crate::protocol::api::{Blob, Module, ModuleStateName};

/// Files below this are sent before a bar would be seen.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;
/// How much is read from a file at once.
const PIECE_BYTES: usize = 256 << 10;
/// How long the answer to an upload may wait for the compilation: most take less, and so need no second request.
pub const COMPILE_WAIT: Duration = Duration::from_secs(30);
/// How often the server is asked whether a module has been compiled after that.
const POLL_FIRST: Duration = Duration::from_millis(50);
/// The same, after some time.
const POLL_MAX: Duration = Duration::from_secs(1);

/// A local file, by what it holds.
#[derive(Debug)]
pub struct Hashed {
    /// Of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// A bar for a person who watches, for work of some length; otherwise nothing is shown.
fn progress(doing: &str, path: &Path, size: u64) -> ProgressBar {
    if size < PROGRESS_BYTES_MIN || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let form = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    ProgressBar::new(size).with_style(style).with_message(format!("{doing} {}", plain(&name)))
}

/// Reads a file once for its digest.
pub fn hash_file(path: &Path) -> Result<Hashed, CliError> {
    let mut file = std::fs::File::open(path).map_err(CliError::file("read", path))?;
    let size = file.metadata().map_err(CliError::file("read", path))?.len();
    let bar = progress("hashing", path, size);
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(CliError::file("read", path))? {
            0 => break,
            n => {
                hasher.update(&piece[..n]);
                bar.inc(n as u64);
            }
        }
    }
    bar.finish_and_clear();
    Ok(Hashed { size: hasher.size(), digest: hasher.finish() })
}

/// The bytes of a file on their way up.
async fn file_body(path: &Path, size: u64) -> Result<(Upload, ProgressBar), CliError> {
    let file = tokio::fs::File::open(path).await.map_err(CliError::file("read", path))?;
    let bar = progress("sending", path, size);
    let counted = bar.clone();
    let pieces = ReaderStream::with_capacity(file, PIECE_BYTES);
    let pieces = pieces.inspect_ok(move |piece| counted.inc(piece.len() as u64));
    Ok((Upload::wrap_stream(pieces), bar))
}

/// What came of an upload.
#[derive(Debug)]
pub struct Pushed {
    /// The module as the server has it.
    pub module: Module,
    /// Whether it had it before.
    pub was_there: bool,
}

/// Uploads a module, unless the server has it; the answer waits up to `wait` for its compilation.
pub async fn push_module(
    client: &Client,
    path: &Path,
    name: Option<&str>,
    wait: Duration,
) -> Result<Pushed, CliError> {
    let Hashed { digest, size } = hash_file(path)?;
    let digest_text = digest.to_string();
    let segments = ["modules", &digest_text];
    if let Some(module) = client.find::<Module>(&segments).await? {
        return Ok(Pushed { module, was_there: true });
    }
    let file_name = path.file_name().map(|name| plain(&name.to_string_lossy()));
    let name = name.map(str::to_owned).or(file_name).filter(|name| !name.trim().is_empty());
    let (body, bar) = file_body(path, size).await?;
    let wait = [("wait_ms", wait.as_millis().to_string())];
    let query: Vec<_> = wait.into_iter().chain(name.map(|name| ("name", name))).collect();
    let module = client.upload(Method::PUT, &segments, &query, body, Some(size)).await;
    bar.finish_and_clear();
    Ok(Pushed { module: module?, was_there: false })
}

/// Waits until runs of a module may start; a refused one is an error. The server bounds a compilation's time.
pub async fn wait_until_ready(client: &Client, mut module: Module) -> Result<Module, CliError> {
    let digest = module.digest.to_string();
    let mut pause = POLL_FIRST;
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner().with_message(format!("compiling {}", module.digest.short()))
    } else {
        ProgressBar::hidden()
    };
    loop {
        match module.state {
            ModuleStateName::Ready => return Ok(module),
            ModuleStateName::Refused => {
                let (code, text) = module.refusal.map_or_else(
                    || ("refused".to_owned(), "no reason was given".to_owned()),
                    |refusal| (plain(&refusal.code), plain(&refusal.text)),
                );
                return Err(CliError::Refused { digest: module.digest, code, text });
            }
            ModuleStateName::Analysed | ModuleStateName::Compiling => {
                bar.tick();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(POLL_MAX);
                module = client.get(&["modules", &digest]).await?;
            }
        }
    }
}

/// Uploads a file as a blob, unless the server has it.
pub async fn push_blob(client: &Client, path: &Path) -> Result<Hashed, CliError> {
    let Hashed { digest, size } = hash_file(path)?;
    let digest_text = digest.to_string();
    let segments = ["blobs", &digest_text];
    if !client.exists(&segments).await? {
        let (body, bar) = file_body(path, size).await?;
        let answer = client.upload::<Blob>(Method::PUT, &segments, &[], body, Some(size)).await;
        bar.finish_and_clear();
        answer?;
    }
    Ok(Hashed { digest, size })
}
