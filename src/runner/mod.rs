//! The runner: a child that executes guests, one attempt at a time, for one workspace.
//!
//! It has one socket to its agent, and two memory files: in one it marks what it has begun, into the other it copies the output
//! of attempts that take long, for people who watch. Everything else is taken from it before the first guest
//! runs: it opens no file, no socket, starts nothing, and dies with its agent. It knows no keys and nobody's name.

pub mod frames;
mod map;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::MemfdFlags;

use self::frames::{Execute, FRAME_BYTES_MAX, FrameError, FromRunner, Source, ToRunner, encode, receive, send};
use crate::digest::Digest;
use crate::jail::{self, Profile, Resources};
use crate::protocol::agent::INLINE_BYTES_MAX;
use crate::result::{OutputFile, OutputRef, ResultManifest};
use crate::sandbox::{
    Execution, Invocation, LiveOutput, Loaded, Mount, SYSTEM_CALLS, Sandbox, SandboxError, Variant,
};
use crate::spec::Limits;

/// The socket to the agent: standard input, so that nothing has to be done between fork and exec.
const SOCKET: i32 = 0;
/// Output of an attempt is shown as it comes only after this time: short ones pay nothing for it.
const LIVE_AFTER: Duration = Duration::from_millis(100);
/// Bytes of each stream that are shown as they come; all of it is in the result.
pub const LIVE_BYTES_MAX: u64 = 1 << 20;
/// What a runner does beyond computing: its frames, descriptors and memory files.
const OWN_CALLS: &[i64] = &[libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_memfd_create, libc::SYS_ftruncate];

/// Plays the role `lockstep runner` until the agent hangs up.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockstep runner: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why a runner ends early.
#[derive(Debug, thiserror::Error)]
enum RunnerError {
    #[error("jail: {0}")]
    Jail(#[from] jail::JailError),
    #[error("sandbox: {0}")]
    Sandbox(#[from] SandboxError),
    #[error("agent: {0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn run() -> Result<(), RunnerError> {
    jail::die_with_parent(None)?;
    jail::close_descriptors_above(2)?;
    let sandbox = Sandbox::new()?;
    jail::limit_resources(&Resources {
        file_bytes: Some(Limits::MAX.output_bytes * 2 + Limits::MAX.file_bytes),
        descriptors: Some(512),
        ..Resources::default()
    })?;
    jail::forbid_new_privileges()?;
    let calls: &'static [i64] = Vec::leak([SYSTEM_CALLS, OWN_CALLS].concat());
    jail::install_seccomp(calls, true)?;
    let socket = socket();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let (ToRunner::Setup, descriptors) = receive(socket, &mut buffer)? else {
        return Err(FrameError::Bad("the first frame is not the setup".to_owned()).into());
    };
    let mut descriptors = descriptors.into_iter().map(File::from);
    let (Some(mark), Some(live)) = (descriptors.next(), descriptors.next()) else {
        return Err(FrameError::Bad("the setup has no descriptors".to_owned()).into());
    };
    send(socket, &encode(&FromRunner::Ready)?, &[])?;
    let mut runner = Runner { sandbox, modules: HashMap::new(), mark, live };
    loop {
        match receive(socket, &mut buffer) {
            Ok((frame, descriptors)) => runner.obey(frame, descriptors)?,
            Err(FrameError::Gone) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn socket() -> BorrowedFd<'static> {
    // standard input is never closed here
    rustix::stdio::stdin()
}

const _: () = assert!(SOCKET == 0);

struct Runner {
    sandbox: Sandbox,
    /// A module that did not load says why when it is to be executed.
    modules: HashMap<u32, Result<Loaded, String>>,
    mark: File,
    live: File,
}

impl Runner {
    fn obey(&mut self, frame: ToRunner, descriptors: Vec<OwnedFd>) -> Result<(), RunnerError> {
        match frame {
            ToRunner::Setup => {}
            ToRunner::Load { module, fueled } => {
                let variant = if fueled { Variant::Fueled } else { Variant::Plain };
                let loaded = match descriptors.into_iter().next() {
                    Some(artifact) => self
                        .sandbox
                        .load_file(&File::from(artifact), variant)
                        .map_err(|error| error.to_string()),
                    None => Err("the artifact did not come along".to_owned()),
                };
                self.modules.insert(module, loaded);
            }
            ToRunner::Unload { module } => {
                self.modules.remove(&module);
            }
            ToRunner::Execute(execute) => self.execute(*execute, descriptors)?,
        }
        Ok(())
    }

    fn execute(&mut self, execute: Execute, descriptors: Vec<OwnedFd>) -> Result<(), RunnerError> {
        let sequence = execute.sequence;
        let refuse = |why: String| -> Result<(), RunnerError> {
            Ok(send(socket(), &encode(&FromRunner::Refused { sequence, why })?, &[])?)
        };
        let loaded = match self.modules.get(&execute.module) {
            Some(Ok(loaded)) => loaded,
            Some(Err(why)) => return refuse(why.clone()),
            None => return refuse("the module is not loaded".to_owned()),
        };
        let invocation = match invocation(execute, descriptors) {
            Ok(invocation) => invocation,
            Err(error) => return refuse(format!("an input could not be mapped: {error}")),
        };
        let shown = Shown::new(self.live.try_clone()?);
        mark(&self.mark, sequence)?;
        let before = cpu_us();
        match self.sandbox.execute(loaded, invocation, Some(Box::new(shown))) {
            Ok(execution) => report(sequence, execution, cpu_us().saturating_sub(before)),
            Err(error) => refuse(error.to_string()),
        }
    }
}

fn invocation(execute: Execute, descriptors: Vec<OwnedFd>) -> io::Result<Invocation> {
    let mut descriptors = descriptors.into_iter();
    let mut bytes = |source: Source| match source {
        Source::Inline(bytes) => Ok(bytes),
        Source::Descriptor { size } => {
            let missing = || io::Error::other("a descriptor is missing");
            map::map(&File::from(descriptors.next().ok_or_else(missing)?), size)
        }
    };
    let stdin = bytes(execute.stdin)?;
    let mut mounts = Vec::with_capacity(execute.mounts.len());
    for mount in execute.mounts {
        let path = mount.path.parse().map_err(io::Error::other)?;
        let content = bytes(mount.source)?;
        mounts.push((path, if mount.is_tree { Mount::Tree(content) } else { Mount::File(content) }));
    }
    Ok(Invocation {
        entry: execute.entry,
        args: execute.args,
        env: execute.env,
        stdin,
        mounts,
        clock_ns: execute.clock_ns,
        seed: execute.seed,
        limits: execute.limits,
    })
}

/// Marks an attempt as begun: 8 bytes of its sequence number, 8 of the wall clock in microseconds, little-endian.
fn mark(file: &File, sequence: u64) -> io::Result<()> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&wall_us().to_le_bytes());
    file.write_all_at(&bytes, 0)
}

/// Reads what [`mark`] wrote.
pub fn read_mark(file: &File) -> Option<(u64, u64)> {
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let word = |range: std::ops::Range<usize>| bytes[range].try_into().map(u64::from_le_bytes).ok();
    Some((word(0..8)?, word(8..16)?))
}

fn wall_us() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)
}

/// CPU time of this thread, in microseconds.
fn cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

/// Hashes what came out, once, and sends it: small outputs in the frame, others in a memory file beside it.
fn report(sequence: u64, execution: Execution, cpu_us: u64) -> Result<(), RunnerError> {
    let files: Vec<(OutputFile, Bytes)> = execution
        .files
        .into_iter()
        .map(|(path, bytes)| {
            let OutputRef { digest, size } = OutputRef::of(&bytes);
            (OutputFile { path, digest, size }, bytes)
        })
        .collect();
    let manifest = ResultManifest {
        outcome: execution.outcome,
        stdout: OutputRef::of(&execution.stdout),
        stderr: OutputRef::of(&execution.stderr),
        files: files.iter().map(|(file, _)| file.clone()).collect(),
        fuel_used: execution.fuel_used,
    };
    let mut outputs: HashMap<Digest, Bytes> = HashMap::new();
    outputs.insert(manifest.stdout.digest, execution.stdout);
    outputs.insert(manifest.stderr.digest, execution.stderr);
    outputs.extend(files.into_iter().map(|(file, bytes)| (file.digest, bytes)));
    outputs.remove(&Digest::EMPTY);
    let total: usize = outputs.values().map(Bytes::len).sum();
    let canonical = Bytes::from(manifest.canonical());
    let mut inline = Vec::new();
    let mut stored = Vec::new();
    let mut memory = None;
    if total <= INLINE_BYTES_MAX {
        inline.extend(outputs);
    } else {
        let file = File::from(
            rustix::fs::memfd_create(c"outputs", MemfdFlags::CLOEXEC).map_err(io::Error::from)?,
        );
        let mut offset = 0;
        for (digest, bytes) in outputs {
            file.write_all_at(&bytes, offset)?;
            stored.push((digest, offset, bytes.len() as u64));
            offset += bytes.len() as u64;
        }
        memory = Some(file);
    }
    let frame = match encode(&FromRunner::Done { sequence, manifest: canonical, inline, stored, cpu_us }) {
        Ok(frame) => frame,
        // thousands of output files make a manifest that no frame takes
        Err(error) => encode(&FromRunner::Refused { sequence, why: format!("the result is too large: {error}") })?,
    };
    let beside: Vec<BorrowedFd<'_>> = memory.iter().map(File::as_fd).collect();
    Ok(send(socket(), &frame, &beside)?)
}

/// Copies output into the live file once an attempt takes long: 8 bytes of length per stream at 0 and 8, then the
/// streams from [`LIVE_HEADER`], standard error [`LIVE_BYTES_MAX`] later.
struct Shown {
    file: File,
    begun: Instant,
    written: [u64; 2],
    pending: [Vec<u8>; 2],
}

/// Where the first stream begins in the live file.
pub const LIVE_HEADER: u64 = 16;

impl Shown {
    fn new(file: File) -> Shown {
        // the former attempt's lengths go with its output
        let _ = file.write_all_at(&[0; 16], 0);
        Shown { file, begun: Instant::now(), written: [0; 2], pending: [Vec::new(), Vec::new()] }
    }
}

impl LiveOutput for Shown {
    fn wrote(&mut self, is_stderr: bool, bytes: &[u8]) {
        let stream = usize::from(is_stderr);
        let known = self.written[stream] + self.pending[stream].len() as u64;
        let room = usize::try_from(LIVE_BYTES_MAX.saturating_sub(known)).unwrap_or(0);
        self.pending[stream].extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.begun.elapsed() < LIVE_AFTER {
            return;
        }
        for (index, pending) in self.pending.iter_mut().enumerate() {
            let base = LIVE_HEADER + index as u64 * LIVE_BYTES_MAX;
            // people who watch lose something if this fails; the result does not
            if !pending.is_empty() && self.file.write_all_at(pending, base + self.written[index]).is_ok() {
                self.written[index] += pending.len() as u64;
                let _ = self.file.write_all_at(&self.written[index].to_le_bytes(), index as u64 * 8);
                pending.clear();
            }
        }
    }
}
