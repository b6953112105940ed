//! The jailed child that executes guests: `lockstep runner PARENT`, started by an agent and by nobody else.
//!
//! Invariants: before a runner reads anything that a guest or caller made, it has given away every right but computing and
//! using the descriptors it holds (`confine`). It executes one attempt at a time, in the order in which they were
//! handed to it, for one workspace in its whole life. It opens nothing by itself: what it reads arrives as a descriptor,
//! what it leaves goes out as one. It ends when its agent closes the socketpair, and dies when its agent dies.
//!
//! It does not know runs, workers, keys, other runners or the network. Its standard input is the socketpair.

mod attempt;
pub mod clock;
pub mod frames;
mod live;
mod mapping;
pub mod page;
mod self_test;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use self::attempt::Beginning;
use self::frames::{Execute, FrameError, FromRunner, Receiver, ToRunner, decode, encode};
use self::live::Mirror;
use self::page::{Begun, RunnerPage};
use crate::jail::{self, Call, JailError, Resources};
use crate::sandbox::{Loaded, STACK_BYTES, SYSTEM_CALLS, Sandbox, SandboxError, Variant};
use crate::spec::Limits;

/// Standard input is the socketpair, standard error the log; nothing else is inherited.
const LAST_DESCRIPTOR: i32 = 2;
/// Artifacts that a runner keeps open at the most; the agent decides which.
pub const MODULES_MAX: u16 = 32;
/// System calls of the loop itself: packets, and anonymous files for large outputs.
const FRAME_CALLS: &[Call] = &[
    Call::any(libc::SYS_sendmsg),
    Call::any(libc::SYS_recvmsg),
    Call::any(libc::SYS_memfd_create),
    Call::any(libc::SYS_ftruncate),
    Call::only(libc::SYS_fcntl, 1, &[libc::F_ADD_SEALS as u64]),
];
/// Twice the guest's stack, as the sandbox asks for, and room for the loop.
const HOST_STACK_BYTES: u64 = 2 * STACK_BYTES as u64 + (1 << 20);

/// Why a runner ends before its agent wants it to. Goes to the log.
#[derive(Debug, thiserror::Error)]
enum RunnerError {
    #[error("it was not started by an agent")]
    Usage,
    #[error("it could not be confined: {0}")]
    Jail(#[from] JailError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("its agent: {0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Runs the role: `lockstep runner PARENT`, or `lockstep runner --self-test` for people who want to see what the jail
/// refuses on their machine.
pub fn main() -> ExitCode {
    let argument = std::env::args().nth(2);
    if argument.as_deref() == Some(self_test::FLAG) {
        return self_test::main(std::env::args().nth(3).as_deref());
    }
    match serve(argument.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runner: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(parent: Option<&str>) -> Result<(), RunnerError> {
    let parent = parent.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).ok_or(RunnerError::Usage)?;
    Runner::new(confine(Some(parent))?).run()
}

/// Gives away every right that executing guests does not need. Everything happens on the one thread of the process: the
/// C library's memory for other threads reads a file of the kernel when it shrinks, which the filter forbids.
fn confine(parent: Option<Pid>) -> Result<Sandbox, RunnerError> {
    jail::die_with_parent(parent)?;
    jail::close_descriptors_above(LAST_DESCRIPTOR)?;
    jail::limit_resources(&Resources {
        // An attempt ends by its timeout, which the agent keeps; a runner lives for many.
        cpu_s: None,
        // A sandbox reserves terabytes and uses megabytes; its memory is bounded by the limits of each run.
        address_space_bytes: None,
        file_bytes: Some(Limits::MAX.output_bytes + Limits::MAX.file_bytes + frames::LARGE_BYTES_MAX),
        // Modules, inputs and their duplicates while they are mapped.
        descriptors: Some(2 * frames::DESCRIPTORS_MAX as u64 + 2 * u64::from(MODULES_MAX) + 16),
    })?;
    promise_stack()?;
    jail::forbid_new_privileges()?;
    let sandbox = Sandbox::new()?;
    // The first reading looks for the kernel's clock in memory, with calls that are forbidden afterwards.
    clock::monotonic_ns();
    let calls: Vec<Call> = SYSTEM_CALLS.iter().chain(FRAME_CALLS).copied().collect();
    jail::install_seccomp(&calls, true)?;
    Ok(sandbox)
}

/// Lets the stack grow as far as guests are promised, whatever the shell's limit is.
fn promise_stack() -> Result<(), RunnerError> {
    let limit = getrlimit(Resource::Stack);
    if limit.current.is_some_and(|current| current < HOST_STACK_BYTES) {
        let wanted = Rlimit { current: Some(HOST_STACK_BYTES), ..limit };
        setrlimit(Resource::Stack, wanted).map_err(std::io::Error::from)?;
    }
    Ok(())
}

/// The loop's state.
struct Runner {
    sandbox: Sandbox,
    page: Option<Arc<RunnerPage>>,
    /// Artifacts by number; of one that could not be loaded, why.
    modules: BTreeMap<u16, Result<Loaded, String>>,
}

/// An answer with the descriptor that goes along.
type Answer = (FromRunner, Option<File>);

impl Runner {
    fn new(sandbox: Sandbox) -> Runner {
        Runner { sandbox, page: None, modules: BTreeMap::new() }
    }

    /// Until the agent closes.
    fn run(mut self) -> Result<(), RunnerError> {
        let socket = std::io::stdin();
        say(&socket, &(FromRunner::Ready, None))?;
        let mut receiver = Receiver::new(frames::DESCRIPTORS_MAX + 1);
        while let Some(packet) = receiver.receive(&socket)? {
            let mut body = &*packet.body;
            let mut files = packet.files.into_iter();
            while let Some(frame) = decode::<ToRunner>(&mut body)? {
                let files: Vec<_> = files.by_ref().take(frame.descriptors()).collect();
                if let Some(answer) = self.handle(frame, files)? {
                    say(&socket, &answer)?;
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, frame: ToRunner, files: Vec<OwnedFd>) -> Result<Option<Answer>, RunnerError> {
        match frame {
            ToRunner::Setup => {
                let file = files.into_iter().next().ok_or(FrameError::Broken("no page"))?;
                self.page = Some(Arc::new(RunnerPage::map(&File::from(file))?));
                Ok(None)
            }
            ToRunner::Load { slot, variant } => {
                let file = files.into_iter().next().ok_or(FrameError::Broken("no artifact"))?;
                self.modules.insert(slot, self.load(file, variant));
                Ok(None)
            }
            ToRunner::Unload { slot } => {
                self.modules.remove(&slot);
                Ok(None)
            }
            ToRunner::Execute(execute) => self.execute(*execute, &files).map(Some),
        }
    }

    fn load(&self, file: OwnedFd, variant: Variant) -> Result<Loaded, String> {
        self.sandbox.load_file(&File::from(file), variant).map_err(|error| error.to_string())
    }

    fn execute(&self, execute: Execute, files: &[OwnedFd]) -> Result<Answer, RunnerError> {
        let seq = execute.seq;
        let refused = |why: String| Ok((FromRunner::Refused { seq, why }, None));
        let page = self.page.as_ref().ok_or(FrameError::Broken("no page"))?;
        let module = match self.modules.get(&execute.slot) {
            Some(Ok(module)) => module,
            Some(Err(why)) => return refused(why.clone()),
            None => return Err(FrameError::Broken("no such module").into()),
        };
        let watched = execute.watched;
        let invocation = match attempt::invocation(execute, files) {
            Ok(invocation) => invocation,
            Err(error) => return refused(format!("an input cannot be mapped: {error}")),
        };
        let beginning = Beginning { seq, at_ns: clock::monotonic_ns(), cpu_us: clock::cpu_us() };
        if !page.begin(Begun { seq, at_ns: beginning.at_ns, cpu_us: beginning.cpu_us }) {
            return Ok((FromRunner::Skipped { seq }, None));
        }
        let live = Mirror::new(Arc::clone(page), seq, watched);
        let execution = match self.sandbox.execute(module, invocation, Some(Box::new(live))) {
            Ok(execution) => execution,
            Err(error) => return refused(error.to_string()),
        };
        match attempt::pack(execution, beginning) {
            Ok((done, file)) => Ok((FromRunner::Done(Box::new(done)), file)),
            Err(error) => refused(format!("its outputs cannot be kept: {error}")),
        }
    }
}

fn say(socket: impl AsFd, (frame, file): &Answer) -> Result<(), FrameError> {
    let mut body = Vec::with_capacity(1024);
    encode(frame, &mut body);
    let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
    frames::send(socket, &body, &files)
}
