//! From a run to what its caller wanted: the end, verified outputs, files, exit code.
//!
//! Invariant: bytes count as verified only after this client has hashed them itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;

use super::client::Client;
use super::error::CliError;
use super::events::EventReader;
use super::exit;
use super::live::{Live, Shown};
use super::screen::Screen;
use super::show;
use crate::digest::{Digest, Hasher};
use crate::id::RunId;
use crate::protocol::api::{LiveOutput, Output, Run, StreamName};
use crate::result::RunState;

/// How long one request waits for the end of a run; then the next one does.
const WAIT: Duration = Duration::from_secs(30);

/// A run.
pub async fn get(client: &Client, id: RunId) -> Result<Run, CliError> {
    client.get(&["runs", &id.to_string()]).await
}

/// A run as its final was in a revision, or as it is.
pub async fn get_at(client: &Client, id: RunId, revision: Option<u32>) -> Result<Run, CliError> {
    let query: Vec<_> = revision.iter().map(|revision| ("revision", *revision)).collect();
    client.json(client.request(Method::GET, &["runs", &id.to_string()]).query(&query)).await
}

/// Waits for the end of a run, however long it takes.
pub async fn wait(client: &Client, id: RunId) -> Result<Run, CliError> {
    loop {
        let request = client.request(Method::GET, &["runs", &id.to_string()]);
        let request = request.query(&[("wait_ms", WAIT.as_millis() as u64)]);
        let run: Run = client.json(request).await?;
        if run.state.is_final() {
            return Ok(run);
        }
    }
}

/// Follows a run's events until its end, handing each to `take`; returns early if the stream is cut.
pub async fn follow(
    client: &Client,
    id: RunId,
    mut take: impl FnMut(Followed<'_>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut pieces = client.download(&["runs", &id.to_string(), "events"]).await?;
    let mut reader = EventReader::default();
    while let Some(event) = reader.next(&mut pieces).await? {
        let broken =
            |error: serde_json::Error| CliError::Broken { doing: "reading an event", why: error.to_string() };
        match event.name.as_str() {
            "run" => take(Followed::Changed(&serde_json::from_str(&event.data).map_err(broken)?))?,
            "output" => take(Followed::Output(&serde_json::from_str(&event.data).map_err(broken)?))?,
            "end" => return Ok(()),
            // A newer server may have more to say.
            _ => {}
        }
    }
    Ok(())
}

/// An event of a run.
#[derive(Debug)]
pub enum Followed<'a> {
    /// Its view changed.
    Changed(&'a Run),
    /// An attempt wrote something.
    Output(&'a LiveOutput),
}

/// Shows output as it comes, and returns the run at its end with what was shown.
pub async fn follow_live(client: &Client, id: RunId, screen: &mut Screen) -> Result<(Run, Live), CliError> {
    let mut live = Live::default();
    follow(client, id, |followed| {
        match followed {
            Followed::Changed(run) => {
                if let Some(note) = live.changed(run) {
                    screen.note(&note);
                }
            }
            Followed::Output(output) => {
                let show = live.output(output);
                if let Some(note) = show.note {
                    screen.note(&note);
                }
                screen.guest(output.stream, &show.bytes)?;
            }
        }
        Ok(())
    })
    .await?;
    Ok((wait(client, id).await?, live))
}

/// Hands the verified bytes of one output to `take`.
pub async fn read_output(
    client: &Client,
    run: &Run,
    stream: StreamName,
    mut take: impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let (name, output) = match stream {
        StreamName::Stdout => ("stdout", &run.stdout),
        StreamName::Stderr => ("stderr", &run.stderr),
    };
    let Some(Output { digest, size, text, base64 }) = output else { return Ok(()) };
    if *size == 0 {
        return Ok(());
    }
    let inline = match (text, base64) {
        (Some(text), _) => Some(text.as_bytes().to_vec()),
        (None, Some(base64)) => BASE64.decode(base64).ok(),
        (None, None) => None,
    };
    let Some(bytes) = inline else {
        return client.fetch(&["runs", &run.id.to_string(), name], "the output", *digest, take).await;
    };
    match Digest::of(&bytes) {
        actual if actual == *digest => take(&bytes),
        actual => Err(CliError::Damaged { what: "the output", expected: *digest, actual }),
    }
}

/// Writes the verified output of one stream, as far as it was not shown live.
async fn write_output(
    client: &Client,
    run: &Run,
    stream: StreamName,
    shown: &Shown,
    screen: &mut Screen,
) -> Result<(), CliError> {
    let output = match stream {
        StreamName::Stdout => &run.stdout,
        StreamName::Stderr => &run.stderr,
    };
    if output.as_ref().is_none_or(|output| output.digest == shown.digest()) {
        return Ok(());
    }
    let mut before = Hasher::new();
    let mut same = shown.size() == 0;
    read_output(client, run, stream, |bytes| {
        let left = shown.size() - before.size();
        let (old, new) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        before.update(old);
        if !same && before.size() == shown.size() {
            same = before.clone().finish() == shown.digest();
        }
        if same { screen.guest(stream, new) } else { Ok(()) }
    })
    .await?;
    if !same {
        screen.note("what was shown live is not what was agreed on; the verified output follows");
        read_output(client, run, stream, |bytes| screen.guest(stream, bytes)).await?;
    }
    Ok(())
}

/// Downloads what the guest left under `/out` into `dir`, each file under its path below `/out`.
pub async fn download_files(client: &Client, run: &Run, dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut written = Vec::new();
    for file in &run.files {
        let path = local_path(dir, &file.path)?;
        let parent = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent).map_err(CliError::file("make", parent))?;
        // Beside its place until it is whole and right, so that nobody takes half a file for the result.
        let mut part = tempfile::NamedTempFile::new_in(parent).map_err(CliError::file("write in", parent))?;
        let inner: Vec<_> = file.path.trim_start_matches('/').split('/').collect();
        let id = run.id.to_string();
        let segments: Vec<_> = ["runs", &id, "files"].into_iter().chain(inner).collect();
        let write = |bytes: &[u8]| {
            std::io::Write::write_all(&mut part, bytes).map_err(CliError::file("write", &path))
        };
        client.fetch(&segments, "the file", file.digest, write).await?;
        part.persist(&path).map_err(|error| CliError::file("write", &path)(error.error))?;
        written.push(path);
    }
    Ok(written)
}

/// Where a guest's file goes. The server checked the path, but a client does not rely on that with its own disk.
fn local_path(dir: &Path, guest: &str) -> Result<PathBuf, CliError> {
    let refuse = || CliError::NoOutput(format!("`{guest}` is no path of an output file"));
    let checked: crate::spec::GuestPath = guest.parse().map_err(|_| refuse())?;
    let inner = checked.as_str().strip_prefix("/out/").ok_or_else(refuse)?;
    Ok(dir.join(inner))
}

/// What becomes of a result.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Print the run as JSON instead of its output.
    pub json: bool,
    /// Print how it was decided.
    pub explain: bool,
    /// Download files into this directory.
    pub out: Option<&'a Path>,
}

/// Reports a final run: output or JSON, files, a sentence about everything that is no plain exit; returns the exit code.
pub async fn report(
    client: &Client,
    run: &Run,
    live: &Live,
    wanted: Wanted<'_>,
    screen: &mut Screen,
) -> Result<u8, CliError> {
    if wanted.json {
        screen.json(run)?;
    } else {
        for stream in [StreamName::Stdout, StreamName::Stderr] {
            write_output(client, run, stream, live.shown(stream), screen).await?;
        }
        if let Some(crate::result::Outcome::Returned { values }) = &run.outcome {
            screen.text(&values.iter().map(|value| format!("{value}\n")).collect::<String>())?;
        }
    }
    if let Some(dir) = wanted.out {
        for path in download_files(client, run, dir).await? {
            screen.note(&format!("wrote {}", path.display()));
        }
    } else if !run.files.is_empty() && !wanted.json {
        let count = run.files.len();
        screen.note(&format!(
            "{count} file(s) under /out; `lockstep runs files {} --out DIR` fetches them",
            run.id
        ));
    }
    if wanted.explain {
        screen.notes(&format!("\n{}\n{}", show::attempts(&run.attempts), show::explain(run)));
        screen.note(&show::verdict(run.state, &run.verdict));
    }
    if let Some(corrected) = show::correction(run) {
        screen.note(&corrected);
    }
    let code = exit::code_of(run);
    if !is_plain_exit(run) {
        let ending = show::ending(run.state, run.reason, run.outcome.as_ref());
        screen.note(&format!("{ending}; `lockstep runs show {}` tells how it was decided", run.id));
    }
    Ok(code)
}

/// Whether the exit code says it all.
fn is_plain_exit(run: &Run) -> bool {
    use crate::result::Outcome::{Exited, Returned};
    run.state != RunState::Canceled && matches!(run.outcome, Some(Exited { .. } | Returned { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_file_stays_below_the_chosen_directory() {
        let path = |guest| local_path(Path::new("here"), guest).ok();
        assert_eq!(path("/out/a/b.png"), Some(PathBuf::from("here/a/b.png")));
        for wrong in ["/out/../x", "/etc/passwd", "out/a", "/out//etc/passwd", "/out", "/outer/x"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }
}
