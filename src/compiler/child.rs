//! The hidden role `compiler`: analyses and compiles one module, and ends.
//!
//! It reads bytes that anybody may have made, with two large parsers and a code generator, so it gives away its rights
//! before the first of them: bounds of the kernel, no privileges, and no system call that opens, connects or
//! executes. It opens nothing by path. Its whole world is three inherited descriptors:
//!
//! | descriptor | what |
//! |---|---|
//! | 0 | the module, read by position |
//! | 1 | an empty file for the artifact (or nothing, if only the analysis is wanted) |
//! | 2 | a pipe for the [`Report`]; whatever is not a report is the last words of a crash |
//!
//! and the [`Job`] as its only argument.

use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::jail::{self, JailError, Profile, Resources};
use crate::sandbox::{Analysis, CompileError, Refusal, Variant, compile, examine};

/// What to do, and within which bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What the module must hash to.
    pub module: Digest,
    /// What to compile after the analysis, if anything.
    pub variant: Option<Variant>,
    /// The largest module, in bytes.
    pub module_bytes_max: u64,
    /// CPU time in seconds.
    pub cpu_s: u64,
    /// Address space in bytes.
    pub address_space_bytes: u64,
    /// The largest artifact, in bytes.
    pub artifact_bytes_max: u64,
    /// The process that must be this one's parent.
    pub parent: i32,
}

/// How it went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Admitted; the artifact, if one was asked for, is written.
    Done(Box<Analysis>),
    /// Not admitted.
    Refused(Refusal),
    /// The child could not do its work; nothing is known about the module.
    Failed(String),
}

/// What a compiler calls beyond the base: nothing.
const EXTRA_CALLS: &[jail::Call] = &[];
/// Descriptor 2 is the last that is inherited on purpose.
const LAST_DESCRIPTOR: i32 = 2;

/// Runs the role: `lockstep compiler JOB`.
pub fn main() -> ExitCode {
    let report = match confined() {
        Ok(job) => work(&job),
        Err(why) => Report::Failed(why),
    };
    let text = serde_json::to_vec(&report).expect("a report has string keys only");
    match io::stderr().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is there to be told.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Takes the job and gives away every right that it does not need.
fn confined() -> Result<Job, String> {
    let text = std::env::args_os().nth(2).ok_or("the role `compiler` is started by Lockstep itself")?;
    let text = text.to_str().ok_or("the job is no text")?;
    let job: Job = serde_json::from_str(text).map_err(|error| format!("the job cannot be read: {error}"))?;
    let profile = Profile {
        last_descriptor: LAST_DESCRIPTOR,
        resources: Resources {
            cpu_s: Some(job.cpu_s),
            address_space_bytes: Some(job.address_space_bytes),
            file_bytes: Some(job.artifact_bytes_max),
            descriptors: Some(LAST_DESCRIPTOR as u64 + 1),
        },
        extra_calls: EXTRA_CALLS,
        executable_memory: false,
    };
    jail::confine(&profile, Pid::from_raw(job.parent)).map_err(|error: JailError| error.to_string())?;
    Ok(job)
}

fn work(job: &Job) -> Report {
    let wasm = match read_module(job.module_bytes_max) {
        Ok(Ok(wasm)) => wasm,
        Ok(Err(refusal)) => return Report::Refused(refusal),
        Err(error) => return Report::Failed(format!("reading the module: {error}")),
    };
    if Digest::of(&wasm) != job.module {
        return Report::Failed("the module's bytes do not hash to its digest".to_owned());
    }
    let analysis = match examine(&wasm) {
        Ok(analysis) => analysis,
        Err(refusal) => return Report::Refused(refusal),
    };
    let Some(variant) = job.variant else {
        return Report::Done(Box::new(analysis));
    };
    let artifact = match compile(&wasm, variant) {
        Ok(artifact) => artifact,
        Err(CompileError::Unsupported(message)) => return Report::Refused(Refusal::Uncompilable { message }),
        Err(CompileError::OutOfMemory(_)) => {
            return Report::Refused(super::memory_bomb(job.address_space_bytes));
        }
        Err(CompileError::Engine(error)) => return Report::Failed(error.to_string()),
    };
    match write_artifact(&artifact) {
        Ok(()) => Report::Done(Box::new(analysis)),
        Err(error) => Report::Failed(format!("writing the artifact: {error}")),
    }
}

/// Reads descriptor 0 from its beginning, wherever its cursor (which others may share) stands.
fn read_module(max: u64) -> io::Result<Result<Vec<u8>, Refusal>> {
    let stdin = io::stdin();
    let size = u64::try_from(rustix::fs::fstat(&stdin)?.st_size).unwrap_or(0);
    if size > max {
        return Ok(Err(Refusal::TooLarge { size, max }));
    }
    let mut wasm = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    let mut filled = 0;
    while filled < wasm.len() {
        match rustix::io::pread(&stdin, &mut wasm[filled..], filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(Ok(wasm))
}

fn write_artifact(artifact: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    let file: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&stdout);
    let mut written = 0;
    while written < artifact.len() {
        written += rustix::io::pwrite(file, &artifact[written..], written as u64)?;
    }
    Ok(())
}
