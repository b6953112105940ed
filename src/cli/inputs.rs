//! From flags to a [`RunRequest`]: small inputs travel in it, large ones are uploaded first and named by digest.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::ReaderStream;

use super::args::{InputArgs, LimitArgs, PolicyArgs, RetryArg, RunArgs};
use super::client::{Client, Upload};
use super::error::CliError;
use super::upload::push_blob;
use crate::digest::Digest;
use crate::protocol::api::{
    Blob, CallbackRequest, InputBytes, InputFile, LimitsRequest, PlacementMode, PlacementRequest, RunRequest,
    VerifyPolicy, VerifyRequest,
};
use crate::spec::Retry;
use crate::tree;

/// Inputs up to this size travel in the request: one round trip less each.
const INLINE_BYTES_MAX: u64 = 64 << 10;
/// All inline inputs of a request together, well below the server's bound on a JSON body.
const INLINE_BYTES_TOTAL: u64 = 1 << 20;

/// Puts a request together, uploading what is large.
pub async fn request_of(client: &Client, args: &RunArgs, module: Digest) -> Result<RunRequest, CliError> {
    let mut inline_left = INLINE_BYTES_TOTAL;
    let stdin = stdin_of(client, args.input.stdin.as_deref(), &mut inline_left).await?;
    let files = files_of(client, &args.input, &mut inline_left).await?;
    let InputArgs { entry, env, clock, seed, profile, .. } = &args.input;
    let PolicyArgs { timeout, deadline, retry, attempts_max, priority, no_durable, .. } = &args.policy;
    Ok(RunRequest {
        module: Some(module),
        entry: entry.clone(),
        args: args.args.clone(),
        env: env.iter().cloned().collect(),
        stdin,
        files,
        clock: *clock,
        seed: *seed,
        profile: *profile,
        limits: limits_of(&args.limits),
        verify: verify_of(&args.policy),
        retry: retry.map(|retry| match retry {
            RetryArg::Reassign => Retry::Reassign,
            RetryArg::Never => Retry::Never,
        }),
        attempts_max: *attempts_max,
        placement: placement_of(&args.policy),
        timeout_ms: timeout.map(|period| period.ms),
        deadline_ms: deadline.map(|period| period.ms),
        priority: *priority,
        durable: no_durable.then_some(false),
        cache: args.policy.cache,
        live: args.output.live.then_some(true),
        callback: args.policy.callback.clone().map(|url| CallbackRequest { url }),
        ..RunRequest::default()
    })
}

fn limits_of(args: &LimitArgs) -> LimitsRequest {
    LimitsRequest {
        memory_bytes: args.memory.map(|size| size.0),
        output_bytes: args.output_limit.map(|size| size.0),
        file_bytes: args.file_limit.map(|size| size.0),
        file_count: None,
        fuel: args.fuel,
    }
}

fn verify_of(args: &PolicyArgs) -> Option<VerifyRequest> {
    if let Some(verify) = args.verify {
        return Some(verify.into());
    }
    if args.once {
        return Some(VerifyRequest { policy: VerifyPolicy::Once, n: None });
    }
    args.quorum.map(|n| VerifyRequest { policy: VerifyPolicy::Quorum, n: Some(n) })
}

fn placement_of(args: &PolicyArgs) -> Option<PlacementRequest> {
    let labels: BTreeMap<_, _> = args.labels.iter().cloned().collect();
    (!labels.is_empty()).then_some(PlacementRequest { mode: PlacementMode::Labels, labels: Some(labels) })
}

/// Takes `size` bytes of what may still travel inline; false if they do not fit.
fn fits_inline(size: u64, left: &mut u64) -> bool {
    let fits = size <= INLINE_BYTES_MAX && size <= *left;
    if fits {
        *left -= size;
    }
    fits
}

/// Standard input of the guest: the named file, what is piped in, or nothing at a terminal.
async fn stdin_of(
    client: &Client,
    path: Option<&Path>,
    inline_left: &mut u64,
) -> Result<Option<InputBytes>, CliError> {
    match path {
        Some(path) if path != Path::new("-") => {
            let file = tokio::fs::File::open(path).await.map_err(CliError::file("read", path))?;
            stream_in(client, file, path, inline_left).await
        }
        // A person who runs a program that reads nothing should not have to press Ctrl-D.
        None if std::io::stdin().is_terminal() => Ok(None),
        _ => {
            let name = Path::new("standard input");
            // Unbuffered, and read off the async thread like any file.
            let own = std::io::stdin().as_fd().try_clone_to_owned().map_err(CliError::file("read", name))?;
            stream_in(client, tokio::fs::File::from_std(own.into()), name, inline_left).await
        }
    }
}

/// Reads a stream of unknown length; only its first bytes are held in memory.
async fn stream_in(
    client: &Client,
    mut source: impl AsyncRead + Send + Unpin + 'static,
    name: &Path,
    inline_left: &mut u64,
) -> Result<Option<InputBytes>, CliError> {
    let mut head = Vec::new();
    let mut first = (&mut source).take(INLINE_BYTES_MAX + 1);
    first.read_to_end(&mut head).await.map_err(CliError::file("read", name))?;
    if head.is_empty() {
        return Ok(None);
    }
    if fits_inline(head.len() as u64, inline_left) {
        return Ok(Some(bytes_inline(head)));
    }
    let body = Upload::wrap_stream(ReaderStream::new(std::io::Cursor::new(head).chain(source)));
    let blob: Blob = client.upload(Method::POST, &["blobs"], &[], body, None).await?;
    Ok(Some(InputBytes::Digest(blob.digest)))
}

fn bytes_inline(bytes: Vec<u8>) -> InputBytes {
    match String::from_utf8(bytes) {
        Ok(text) => InputBytes::Text(text),
        Err(error) => InputBytes::Base64(BASE64.encode(error.as_bytes())),
    }
}

async fn files_of(
    client: &Client,
    args: &InputArgs,
    inline_left: &mut u64,
) -> Result<BTreeMap<String, InputFile>, CliError> {
    let mut files = BTreeMap::new();
    let mut put =
        |guest: &crate::spec::GuestPath, file: InputFile| match files.insert(guest.to_string(), file) {
            None => Ok(()),
            Some(_) => Err(CliError::Usage(format!("`{guest}` is given twice"))),
        };
    for input in &args.files {
        let size = std::fs::metadata(&input.local).map_err(CliError::file("read", &input.local))?.len();
        let file = if fits_inline(size, inline_left) {
            let bytes = std::fs::read(&input.local).map_err(CliError::file("read", &input.local))?;
            match bytes_inline(bytes) {
                InputBytes::Text(text) => InputFile::Text(text),
                InputBytes::Base64(base64) => InputFile::Base64(base64),
                InputBytes::Digest(digest) => InputFile::Digest(digest),
            }
        } else {
            InputFile::Digest(push_blob(client, &input.local).await?.digest)
        };
        put(&input.guest, file)?;
    }
    for input in &args.dirs {
        let packed = pack(input.local.clone()).await?;
        put(&input.guest, InputFile::Tree(push_blob(client, packed.path()).await?.digest))?;
    }
    Ok(files)
}

/// Packs a directory into a temporary file, which goes when it is dropped.
async fn pack(root: PathBuf) -> Result<tempfile::NamedTempFile, CliError> {
    let packing = tokio::task::spawn_blocking(move || {
        let refuse = |why: String| CliError::Pack { path: root.clone(), why };
        let mut file = tempfile::NamedTempFile::new().map_err(|error| refuse(error.to_string()))?;
        let mut output = std::io::BufWriter::new(file.as_file_mut());
        tree::pack_directory(&root, &mut output).map_err(|error| refuse(error.to_string()))?;
        output.into_inner().map_err(|error| refuse(error.error().to_string()))?;
        Ok(file)
    });
    packing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::cli::connection::{Connection, Trust};
    use clap::Parser as _;

    /// Nothing here may be sent: the address is one where nobody listens.
    fn client() -> Client {
        let server = "http://127.0.0.1:9".to_owned();
        Client::new(Connection { server, token: None, local: false, trust: Trust::Plaintext }).unwrap()
    }

    async fn request(flags: &[&str]) -> Result<serde_json::Value, CliError> {
        let line = ["lockstep", "run", "x.wasm", "--stdin", "/dev/null"].iter().chain(flags);
        let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        let request = request_of(&client(), &run, Digest::EMPTY).await?;
        Ok(serde_json::to_value(request).unwrap())
    }

    #[tokio::test]
    async fn a_plain_run_asks_for_nothing_but_the_module() {
        let request = request(&[]).await.unwrap();
        assert_eq!(request, serde_json::json!({"module": Digest::EMPTY}));
    }

    #[tokio::test]
    async fn every_flag_reaches_its_field() {
        let flags = "--entry fib -e A=b --memory 1MiB --fuel 7 --output-limit 2KiB --file-limit 3KiB --quorum 3 \
                     --timeout 5s --deadline 1m --retry never --attempts-max 2 --priority -4 --no-durable \
                     --label zone=a --clock now --seed 9 --profile det-1-portable -- 30 -x";
        let request = request(&flags.split_whitespace().collect::<Vec<_>>()).await.unwrap();
        let expected = serde_json::json!({
            "module": Digest::EMPTY, "entry": "fib", "args": ["30", "-x"], "env": {"A": "b"},
            "limits": {"memory_bytes": 1 << 20, "fuel": 7, "output_bytes": 2048, "file_bytes": 3072},
            "verify": {"policy": "quorum", "n": 3}, "timeout_ms": 5000, "deadline_ms": 60000, "retry": "never",
            "attempts_max": 2, "priority": -4, "durable": false, "clock": "now", "seed": 9, "profile": "det-1-portable",
            "placement": {"mode": "labels", "labels": {"zone": "a"}},
        });
        assert_eq!(request, expected);
    }

    #[tokio::test]
    async fn live_output_is_asked_for() {
        let request = request(&["--live"]).await.unwrap();
        assert_eq!(request, serde_json::json!({"module": Digest::EMPTY, "live": true}));
    }

    #[tokio::test]
    async fn small_files_travel_in_the_request() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t"), "text").unwrap();
        std::fs::write(dir.path().join("b"), [0xff, 0]).unwrap();
        let file = |guest: &str, local: &str| format!("--file={guest}={}", dir.path().join(local).display());
        let request = request(&[&file("/t", "t"), &file("/b", "b")]).await.unwrap();
        assert_eq!(request["files"], serde_json::json!({"/t": {"text": "text"}, "/b": {"base64": "/wA="}}));
    }

    #[tokio::test]
    async fn large_files_are_uploaded_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; INLINE_BYTES_MAX as usize + 1]).unwrap();
        let error = request(&[&format!("--file=/big={}", file.path().display())]).await.unwrap_err();
        assert!(matches!(error, CliError::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn one_place_cannot_hold_two_files() {
        let error = request(&["--file=/a=/dev/null", "--file=/a=/dev/null"]).await.unwrap_err();
        assert_eq!(error.to_string(), "`/a` is given twice");
    }

    #[test]
    fn inline_inputs_are_bounded_together() {
        let mut left = 100_000;
        assert!(!fits_inline(INLINE_BYTES_MAX + 1, &mut left));
        assert!(
            fits_inline(60_000, &mut left)
                && !fits_inline(60_000, &mut left)
                && fits_inline(40_000, &mut left)
        );
        assert_eq!(left, 0);
    }
}
