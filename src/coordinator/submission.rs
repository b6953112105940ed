//! From a run request to a validated submission: every default filled in, every bound checked, inline inputs decoded.
//!
//! Pure. Invariant: what [`prepare`] lets through is a [`RunSpec`] within [`Limits::MAX`] whose canonical JSON is exact, and a
//! refusal names the field (as a JSON pointer), the value and what is allowed. Whether module and blobs are there, and whether
//! the entry exists in the module, is not known here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::callbacks::address;
use super::service::Prepared;
use crate::digest::Digest;
use crate::protocol::api::{
    CallbackRequest, Clock, InputBytes, InputFile, LimitsRequest, PlacementMode, PlacementRequest,
    ProblemCode, RunRequest, VerifyPolicy, VerifyRequest,
};
use crate::spec::{
    ARGS_BYTES_MAX, Callback, DEFAULT_ENTRY, FILES_MAX, FileInput, GuestPath, INTEGER_MAX, Limits, Placement,
    Policy, RunSpec, Verify, canonical_json, default_clock,
};

/// The longest that an answer may wait for a run's end: five minutes, which common proxies still let pass.
pub const WAIT_MS_MAX: u64 = 300_000;
/// The longest that one attempt may take: a day.
pub const TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
/// The longest that a run may take, waiting and reruns included: thirty days.
pub const DEADLINE_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// More timed-out attempts than this teach nothing new.
pub const ATTEMPTS_MAX: u64 = 20;
/// A module needs one page of memory at least.
pub const MEMORY_BYTES_MIN: u64 = 64 * 1024;
/// Names of exports are short; this bounds what is logged and shown.
pub const ENTRY_BYTES_MAX: usize = 255;
/// Labels that a placement may ask for.
pub const LABELS_MAX: usize = 16;
/// Length of a label's name or value.
pub const LABEL_BYTES_MAX: usize = 63;
/// Length of an Idempotency-Key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct Invalid {
    /// What programs tell it apart by.
    pub code: ProblemCode,
    /// JSON pointer of the field, or the name of a header.
    pub pointer: String,
    /// What is wrong with it and what is allowed.
    pub detail: String,
}

fn field(pointer: &str, detail: impl Into<String>) -> Invalid {
    Invalid { code: ProblemCode::InvalidField, pointer: pointer.to_owned(), detail: detail.into() }
}

/// A validated submission and how long its answer may wait.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What goes to the service.
    pub prepared: Prepared,
    /// How long the answer waits for the run's end; `None` not at all.
    pub wait: Option<Duration>,
}

/// Checks `request` and fills in its defaults. `now` is what `clock: "now"` becomes.
///
/// # Errors
///
/// The first field that is at fault.
pub fn prepare(
    request: &RunRequest,
    idempotency_key: Option<&str>,
    now: jiff::Timestamp,
) -> Result<Checked, Invalid> {
    let mut blobs = InlineBlobs::default();
    let spec = spec(request, now, &mut blobs)?;
    let policy = policy(request)?;
    let wait_ms = bounded("/wait_ms", request.wait_ms, 0, 0..=WAIT_MS_MAX)?;
    if !policy.durable && wait_ms == 0 {
        let why = "a run with `durable` false lives in memory only, so its answer must be waited for: \
                   set `wait_ms` to 1 or more, or leave `durable` out";
        return Err(field("/wait_ms", why));
    }
    let idempotency = match idempotency_key {
        None => None,
        Some(_) if !policy.durable => {
            let why = "a run with `durable` false takes no Idempotency-Key, because nothing of it outlives a \
                       restart: leave out one of the two";
            return Err(field("/durable", why));
        }
        Some(key) => Some((idempotency_key_checked(key)?, fingerprint(request))),
    };
    let run_key = spec.key();
    let prepared = Prepared {
        spec: Arc::new(spec),
        run_key,
        policy,
        has_default_verify: request.verify.is_none(),
        blobs: blobs.0.into_iter().collect(),
        idempotency,
        must_be_written: request.durable == Some(true),
        rerun_of: None,
        live: request.live.unwrap_or(false),
    };
    Ok(Checked { prepared, wait: (wait_ms > 0).then(|| Duration::from_millis(wait_ms)) })
}

/// The digest by which a repeated request is known: of its canonical JSON, without how long it waits.
fn fingerprint(request: &RunRequest) -> Digest {
    Digest::of(&canonical_json(&RunRequest { wait_ms: None, ..request.clone() }))
}

/// An Idempotency-Key as it may be.
///
/// # Errors
///
/// It is too long, or has other characters than visible ones.
pub fn idempotency_key_checked(key: &str) -> Result<String, Invalid> {
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !visible {
        return Err(Invalid {
            code: ProblemCode::InvalidParameter,
            pointer: "Idempotency-Key".to_owned(),
            detail: format!(
                "an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
            ),
        });
    }
    Ok(key.to_owned())
}

/// Inputs that came in the request, each once.
#[derive(Default)]
struct InlineBlobs(BTreeMap<Digest, Bytes>);

impl InlineBlobs {
    fn add(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.entry(digest).or_insert_with(|| Bytes::from(bytes));
        digest
    }
}

fn spec(request: &RunRequest, now: jiff::Timestamp, blobs: &mut InlineBlobs) -> Result<RunSpec, Invalid> {
    if request.function.is_some() {
        return Err(Invalid {
            code: ProblemCode::NotAvailable,
            pointer: "/function".to_owned(),
            detail: "functions are not available yet: name the module by its digest in `module`".to_owned(),
        });
    }
    let Some(module) = request.module else {
        return Err(field("/module", "it is missing: give the digest of an uploaded module"));
    };
    check_args(request)?;
    Ok(RunSpec {
        module,
        entry: entry(request)?,
        args: request.args.clone(),
        env: request.env.clone(),
        stdin: stdin(request, blobs)?,
        files: files(request, blobs)?,
        profile: request.profile.unwrap_or_default(),
        clock: clock(request, now)?,
        seed: bounded("/seed", request.seed, 0, 0..=INTEGER_MAX)?,
        limits: limits(&request.limits)?,
    })
}

fn entry(request: &RunRequest) -> Result<String, Invalid> {
    let entry = request.entry.as_deref().unwrap_or(DEFAULT_ENTRY);
    if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
        let why = format!("it has {} bytes; the name of an export has 1 to {ENTRY_BYTES_MAX}", entry.len());
        return Err(field("/entry", why));
    }
    Ok(entry.to_owned())
}

fn check_args(request: &RunRequest) -> Result<(), Invalid> {
    for (index, arg) in request.args.iter().enumerate() {
        if arg.contains('\0') {
            return Err(field(&format!("/args/{index}"), "an argument cannot hold a NUL character"));
        }
    }
    for (name, value) in &request.env {
        let at = || format!("/env/{}", escape(name));
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(field(&at(), "a variable's name is not empty and holds neither `=` nor NUL"));
        }
        if value.contains('\0') {
            return Err(field(&at(), "a variable's value cannot hold a NUL character"));
        }
    }
    // as `execve` counts: each text with the NUL (and the `=`) that ends it
    let args: usize = request.args.iter().map(|arg| arg.len() + 1).sum();
    let env: usize = request.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if args + env > ARGS_BYTES_MAX {
        let why = format!(
            "arguments ({args} bytes) and environment ({env} bytes) may have {ARGS_BYTES_MAX} bytes together: \
             send large inputs as `stdin` or `files`"
        );
        return Err(field(if args >= env { "/args" } else { "/env" }, why));
    }
    Ok(())
}

fn stdin(request: &RunRequest, blobs: &mut InlineBlobs) -> Result<Digest, Invalid> {
    match &request.stdin {
        None => Ok(Digest::EMPTY),
        Some(InputBytes::Digest(digest)) => Ok(*digest),
        Some(InputBytes::Text(text)) if text.is_empty() => Ok(Digest::EMPTY),
        Some(InputBytes::Text(text)) => Ok(blobs.add(text.clone().into_bytes())),
        Some(InputBytes::Base64(text)) => match decode_base64("/stdin/base64", text)? {
            bytes if bytes.is_empty() => Ok(Digest::EMPTY),
            bytes => Ok(blobs.add(bytes)),
        },
    }
}

fn decode_base64(pointer: &str, text: &str) -> Result<Vec<u8>, Invalid> {
    BASE64
        .decode(text)
        .map_err(|error| field(pointer, format!("it is no standard base64 with padding: {error}")))
}

fn files(request: &RunRequest, blobs: &mut InlineBlobs) -> Result<BTreeMap<GuestPath, FileInput>, Invalid> {
    if request.files.len() > FILES_MAX {
        let why = format!(
            "there are {} inputs and a run takes {FILES_MAX}: pack directories into trees",
            request.files.len()
        );
        return Err(field("/files", why));
    }
    let mut files = BTreeMap::new();
    for (path, input) in &request.files {
        let at = format!("/files/{}", escape(path));
        let path: GuestPath = path.parse().map_err(|error| field(&at, format!("{error}")))?;
        let input = match input {
            InputFile::Text(text) => FileInput::Blob(blobs.add(text.clone().into_bytes())),
            InputFile::Base64(text) => {
                FileInput::Blob(blobs.add(decode_base64(&format!("{at}/base64"), text)?))
            }
            InputFile::Digest(digest) => FileInput::Blob(*digest),
            InputFile::Tree(digest) => FileInput::Tree(*digest),
        };
        if matches!(path.as_str(), "/tmp" | "/out") && matches!(input, FileInput::Blob(_)) {
            let why = format!("`{path}` is a directory of every run: put the file below it, or elsewhere");
            return Err(field(&at, why));
        }
        files.insert(path, input);
    }
    if let Some((ancestor, path)) = nested(&files) {
        let at = format!("/files/{}", escape(path.as_str()));
        return Err(field(&at, format!("it lies below `{ancestor}`, which is an input itself")));
    }
    Ok(files)
}

/// An input below another one: a file has nothing below it, and what a tree holds is not known here.
fn nested(files: &BTreeMap<GuestPath, FileInput>) -> Option<(&GuestPath, &GuestPath)> {
    // With the separator before every other byte (none can be NUL), what lies below a path follows it at once. So each
    // path is compared with one other, not looked up by every directory that it lies in.
    let mut paths: Vec<_> = files.keys().map(|path| (path.as_str().replace('/', "\0"), path)).collect();
    paths.sort_unstable();
    let below = |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.starts_with('\0'));
    let found = paths.windows(2).find(|pair| below(&pair[1].0, &pair[0].0))?;
    Some((found[0].1, found[1].1))
}

fn clock(request: &RunRequest, now: jiff::Timestamp) -> Result<jiff::Timestamp, Invalid> {
    let at = match request.clock {
        None => return Ok(default_clock()),
        Some(Clock::Now) => now,
        Some(Clock::At(at)) => at.0,
    };
    // guests read their clock as nanoseconds since 1970 in 64 bits
    if u64::try_from(at.as_nanosecond()).is_err() {
        let why = format!("`{at}` is out of range: a guest's clock starts between 1970-01-01 and 2554-07-21");
        return Err(field("/clock", why));
    }
    Ok(at)
}

fn limits(request: &LimitsRequest) -> Result<Limits, Invalid> {
    let (default, max) = (Limits::default(), Limits::MAX);
    let memory = MEMORY_BYTES_MIN..=max.memory_bytes;
    let file_count = u64::from(max.file_count);
    Ok(Limits {
        memory_bytes: bounded("/limits/memory_bytes", request.memory_bytes, default.memory_bytes, memory)?,
        output_bytes: bounded(
            "/limits/output_bytes",
            request.output_bytes,
            default.output_bytes,
            0..=max.output_bytes,
        )?,
        file_bytes: bounded(
            "/limits/file_bytes",
            request.file_bytes,
            default.file_bytes,
            0..=max.file_bytes,
        )?,
        file_count: narrowed("/limits/file_count", request.file_count, default.file_count, 0..=file_count)?,
        fuel: match request.fuel {
            None => None,
            fuel => Some(bounded("/limits/fuel", fuel, 0, 1..=INTEGER_MAX)?),
        },
    })
}

fn policy(request: &RunRequest) -> Result<Policy, Invalid> {
    let default = Policy::default();
    let priority = request.priority.unwrap_or(i64::from(default.priority));
    let Ok(priority) = i8::try_from(priority) else {
        return Err(out_of_range("/priority", priority, &(-128..=127)));
    };
    Ok(Policy {
        verify: request.verify.as_ref().map_or(Ok(default.verify), verify)?,
        retry: request.retry.unwrap_or_default(),
        attempts_max: narrowed(
            "/attempts_max",
            request.attempts_max,
            default.attempts_max,
            1..=ATTEMPTS_MAX,
        )?,
        placement: request.placement.as_ref().map_or(Ok(default.placement), placement)?,
        timeout_ms: bounded("/timeout_ms", request.timeout_ms, default.timeout_ms, 1..=TIMEOUT_MS_MAX)?,
        deadline_ms: match request.deadline_ms {
            None => default.deadline_ms,
            deadline => Some(bounded("/deadline_ms", deadline, 1, 1..=DEADLINE_MS_MAX)?),
        },
        priority,
        durable: request.durable.unwrap_or(default.durable),
        cache: request.cache.unwrap_or(default.cache),
        callback: callback(request)?,
    })
}

/// Who is to be told. Where that is and whether it may be reached is not known here.
fn callback(request: &RunRequest) -> Result<Option<Callback>, Invalid> {
    let Some(CallbackRequest { url }) = &request.callback else { return Ok(None) };
    if request.durable == Some(false) {
        let why = "a run with `durable` false takes no callback, because nothing of it outlives a restart: leave out \
                   one of the two";
        return Err(field("/callback", why));
    }
    let url = address::parse(url).map_err(|why| Invalid {
        code: ProblemCode::CallbackRefused,
        pointer: "/callback/url".to_owned(),
        detail: why,
    })?;
    Ok(Some(Callback { url: url.as_str().into() }))
}

/// The policy that a request asks for.
///
/// # Errors
///
/// Where it is at fault.
pub fn verify(request: &VerifyRequest) -> Result<Verify, Invalid> {
    match (request.policy, request.n) {
        (VerifyPolicy::Once, None) => Ok(Verify::Once),
        (VerifyPolicy::Once, Some(_)) => {
            Err(field("/verify/n", "`once` has one attempt: leave `n` out, or ask for `quorum`"))
        }
        (VerifyPolicy::Quorum, n) => {
            let n = narrowed("/verify/n", n, 2, 2..=u64::from(Verify::QUORUM_MAX))?;
            Ok(Verify::Quorum { n })
        }
        (VerifyPolicy::Standard, None) => Ok(Verify::Standard),
        (VerifyPolicy::High, None) => Ok(Verify::High),
        (VerifyPolicy::Standard | VerifyPolicy::High, Some(_)) => Err(field(
            "/verify/n",
            "`standard` and `high` ask as many workers as their credibility needs: leave `n` out, or ask for `quorum`",
        )),
    }
}

fn placement(request: &PlacementRequest) -> Result<Placement, Invalid> {
    match (request.mode, &request.labels) {
        (PlacementMode::Any, None) => Ok(Placement::Any),
        (PlacementMode::Any, Some(_)) => {
            Err(field("/placement/labels", "`any` takes no labels: leave them out, or ask for mode `labels`"))
        }
        (PlacementMode::Labels, labels) => {
            let labels = labels.clone().unwrap_or_default();
            if labels.is_empty() || labels.len() > LABELS_MAX {
                let why = format!("mode `labels` takes 1 to {LABELS_MAX} labels");
                return Err(field("/placement/labels", why));
            }
            let fits = |text: &str| !text.is_empty() && text.len() <= LABEL_BYTES_MAX;
            if let Some(name) = labels.iter().find(|(name, value)| !fits(name) || !fits(value)).map(|it| it.0)
            {
                let why = format!("a label's name and value have 1 to {LABEL_BYTES_MAX} bytes each");
                return Err(field(&format!("/placement/labels/{}", escape(name)), why));
            }
            Ok(Placement::Labels { labels })
        }
        (PlacementMode::Primary, _) => Err(Invalid {
            code: ProblemCode::PolicyNotAvailable,
            pointer: "/placement/mode".to_owned(),
            detail: "placement on one elected worker is not available yet: use `any` or `labels`".to_owned(),
        }),
    }
}

/// `value`, or `default` if there is none, within `range`.
fn bounded(
    pointer: &str,
    value: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, Invalid> {
    match value {
        None => Ok(default),
        Some(value) if range.contains(&value) => Ok(value),
        Some(value) => Err(out_of_range(pointer, value, &range)),
    }
}

/// The same for a field that is stored in fewer bits than its range's type has.
fn narrowed<T: TryFrom<u64> + Into<u64>>(
    pointer: &str,
    value: Option<u64>,
    default: T,
    range: RangeInclusive<u64>,
) -> Result<T, Invalid> {
    let value = bounded(pointer, value, default.into(), range.clone())?;
    T::try_from(value).map_err(|_| out_of_range(pointer, value, &range))
}

fn out_of_range<T: Display>(pointer: &str, value: T, range: &RangeInclusive<T>) -> Invalid {
    let (low, high) = (range.start(), range.end());
    field(pointer, format!("{value} is out of range: it must be from {low} to {high}"))
}

/// A key as a part of a JSON pointer (RFC 6901, section 3).
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
