//! WASI preview 1 over the deterministic file system: all 46 functions of `wasi_snapshot_preview1`.
//!
//! What a guest can observe follows from its [`WasiConfig`] alone: see [`clock`] for time, [`random`] for entropy,
//! [`stdio`] for the streams and [`vfs`](super::vfs) for files. Where preview 1 leaves a choice, this is ours:
//!
//! - The only directory that is open from the start is `/`, as descriptor 3, and the working directory of libc is `/`.
//! - Standard streams have no file type, as pipes have none, so that C libraries buffer output in blocks.
//! - A path that leads out of its directory is `EPERM`; an absolute one too, also as the target of a link.
//! - A descriptor gets the rights of its kind (and of the directory that it was opened through), whatever was asked for,
//!   except that reading and writing must be asked for. Rights can be given up, never regained.
//! - Polling is always ready for files and streams, and sleeps in virtual time otherwise.
//! - There are no sockets: an open descriptor is none. There are no signals.
//!
//! One [`WasiState`] serves one instance. What ends a guest travels as a typed error: [`Exit`], [`OutputLimitReached`] and
//! [`HostAbiError`] are what the guest did; [`HostMemoryError`] is a fault of the host.

mod abi;
mod clock;
mod fd;
mod fs;
mod memory;
mod poll;
mod random;
mod stdio;
mod system;
mod table;

use bytes::Bytes;
use wasmtime::{Caller, Extern, Linker};

use super::vfs::{FsError, MountError, OpenId, Vfs};
use super::{LiveOutput, Mount};
use vocabulary::spec::{GuestPath, Limits};

use abi::Errno;
use clock::VirtualClock;
use memory::Memory;
use random::RandomStream;
use stdio::Stdio;
use table::{Descriptor, Table, Target};

/// The name that guests import from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// What every program is called.
const PROGRAM: &str = "main";

/// Everything that a guest can observe through WASI.
pub struct WasiConfig {
    /// The arguments after the program's name, which is always `main`.
    pub args: Vec<String>,
    /// The environment, in this order.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Bytes,
    /// Read-only inputs.
    pub mounts: Vec<(GuestPath, Mount)>,
    /// The first reading of the wall clock, nanoseconds since the Unix epoch; also the time of every file.
    pub clock_ns: u64,
    /// Seed of the random bytes.
    pub seed: u64,
    /// Bounds on output and files.
    pub limits: Limits,
    /// Who watches the output.
    pub live: Option<Box<dyn LiveOutput>>,
}

/// The WASI side of one instance.
pub struct WasiState {
    args: Vec<String>,
    env: Vec<(String, String)>,
    clock: VirtualClock,
    random: RandomStream,
    stdio: Stdio,
    table: Table,
    vfs: Vfs,
    /// The memory of the instance, once it has called.
    memory: Option<wasmtime::Memory>,
}

/// What a guest left.
#[derive(Debug)]
pub struct WasiOutput {
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
    /// Files under `/out`, sorted by path; none if their paths are too long together ([`vocabulary::spec::OUTPUT_PATHS_BYTES_MAX`]).
    pub files: Option<Vec<(GuestPath, Bytes)>>,
}

/// The guest ended itself with `proc_exit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the guest exited with code {0}")]
pub struct Exit(pub u32);

/// Standard output and error together passed the limit; they hold exactly as many bytes as it allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the guest passed its output limit")]
pub struct OutputLimitReached;

/// The guest misused a function in a way that no errno answers: a pointer outside of its memory, or not aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the guest misused a WASI function: {0}")]
pub struct HostAbiError(&'static str);

/// The host has no memory for bytes that the limits allow: a fault, no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the host has no memory for the guest's files or output")]
pub struct HostMemoryError;

impl WasiState {
    /// Prepares everything; fails only where inputs cannot be mounted.
    pub fn new(config: WasiConfig) -> Result<WasiState, MountError> {
        let mut vfs = Vfs::new(&config.limits, config.clock_ns, config.mounts)?;
        let root = vfs.open_root();
        Ok(WasiState {
            args: config.args,
            env: config.env,
            clock: VirtualClock::new(config.clock_ns),
            random: RandomStream::new(config.seed, "wasi"),
            stdio: Stdio::new(config.stdin, config.limits.output_bytes, config.live),
            table: Table::new(root),
            vfs,
            memory: None,
        })
    }

    /// What the guest left, however it ended.
    pub fn finish(self) -> WasiOutput {
        let (stdout, stderr) = self.stdio.finish();
        WasiOutput { stdout, stderr, files: self.vfs.into_outputs() }
    }

    /// The open directory `fd`, if it has `right`.
    fn directory(&self, fd: u32, right: u64) -> Result<OpenId, Errno> {
        let descriptor = self.table.get(fd)?;
        match descriptor.target {
            Target::Directory { open, .. } => descriptor.check(right).map(|()| open),
            Target::File(_) => Err(Errno::NOTDIR),
            Target::Stdin | Target::Stdout | Target::Stderr => Err(Errno::BADF),
        }
    }

    /// The open file `fd`, if it has `right`; `stream` is the answer for a standard stream.
    fn file(&self, fd: u32, right: u64, stream: Errno) -> Result<OpenId, Errno> {
        let descriptor = self.table.get(fd)?;
        match descriptor.target {
            Target::File(open) => descriptor.check(right).map(|()| open),
            Target::Directory { .. } => Err(Errno::ISDIR),
            Target::Stdin | Target::Stdout | Target::Stderr => Err(stream),
        }
    }

    /// Forgets what a descriptor that was taken out of the table stood for.
    fn close(&mut self, descriptor: &Descriptor) {
        if let Some(open) = descriptor.open() {
            self.vfs.close(open);
        }
    }
}

impl AsMut<WasiState> for WasiState {
    fn as_mut(&mut self) -> &mut WasiState {
        self
    }
}

/// Why a function did not succeed: an answer to the guest, or its end.
#[derive(Debug)]
enum Fail {
    Errno(Errno),
    Stop(wasmtime::Error),
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Fail {
        Fail::Errno(errno)
    }
}

impl From<FsError> for Fail {
    fn from(error: FsError) -> Fail {
        abi::errno(error).map_or_else(|| HostMemoryError.into(), Fail::Errno)
    }
}

macro_rules! stops {
    ($($error:ident),*) => {$(
        impl From<$error> for Fail {
            fn from(error: $error) -> Fail {
                Fail::Stop(error.into())
            }
        }
    )*};
}
stops!(Exit, OutputLimitReached, HostAbiError, HostMemoryError);

/// One call of the guest: its memory beside the state. The functions are its methods.
struct Call<'a> {
    wasi: &'a mut WasiState,
    memory: Memory<'a>,
}

/// What a function answers.
type Answer = Result<(), Fail>;

/// Runs one function for `caller`. A caller without a memory has one of no bytes.
fn call<T>(caller: &mut Caller<'_, T>, function: impl FnOnce(Call<'_>) -> Answer) -> wasmtime::Result<u32>
where
    T: AsMut<WasiState> + 'static,
{
    let known = caller.data_mut().as_mut().memory;
    let memory = known.or_else(|| caller.get_export("memory").and_then(Extern::into_memory));
    let answer = match memory {
        Some(memory) => {
            let (bytes, state) = memory.data_and_store_mut(&mut *caller);
            let wasi = state.as_mut();
            wasi.memory = Some(memory);
            function(Call { wasi, memory: Memory(bytes) })
        }
        None => function(Call { wasi: caller.data_mut().as_mut(), memory: Memory(&mut []) }),
    };
    match answer {
        Ok(()) => Ok(u32::from(Errno::SUCCESS.0)),
        Err(Fail::Errno(errno)) => Ok(u32::from(errno.0)),
        Err(Fail::Stop(error)) => Err(error),
    }
}

/// Lists the functions that answer an errno, with the types of their parameters.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The names that are offered, without the module.
        pub const FUNCTIONS: &[&str] = &["proc_exit", $(stringify!($name)),*];

        /// Offers every function under [`MODULE`].
        pub fn add_to_linker<T>(linker: &mut Linker<T>) -> wasmtime::Result<()>
        where
            T: AsMut<WasiState> + 'static,
        {
            // The only one without an answer.
            linker.func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> { Err(Exit(code).into()) })?;
            $(linker.func_wrap(
                MODULE,
                stringify!($name),
                |mut caller: Caller<'_, T>, $($argument: $type),*| call(&mut caller, |mut call| call.$name($($argument),*)),
            )?;)*
            Ok(())
        }
    };
}
functions! {
    args_get(argv: u32, buffer: u32);
    args_sizes_get(count: u32, size: u32);
    environ_get(environ: u32, buffer: u32);
    environ_sizes_get(count: u32, size: u32);
    clock_res_get(clock: u32, resolution: u32);
    clock_time_get(clock: u32, precision: u64, time: u32);
    fd_advise(fd: u32, offset: u64, length: u64, advice: u32);
    fd_allocate(fd: u32, offset: u64, length: u64);
    fd_close(fd: u32);
    fd_datasync(fd: u32);
    fd_fdstat_get(fd: u32, stat: u32);
    fd_fdstat_set_flags(fd: u32, flags: u32);
    fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
    fd_filestat_get(fd: u32, stat: u32);
    fd_filestat_set_size(fd: u32, size: u64);
    fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32);
    fd_pread(fd: u32, iovecs: u32, count: u32, offset: u64, read: u32);
    fd_prestat_get(fd: u32, prestat: u32);
    fd_prestat_dir_name(fd: u32, buffer: u32, length: u32);
    fd_pwrite(fd: u32, iovecs: u32, count: u32, offset: u64, written: u32);
    fd_read(fd: u32, iovecs: u32, count: u32, read: u32);
    fd_readdir(fd: u32, buffer: u32, length: u32, cookie: u64, used: u32);
    fd_renumber(from: u32, to: u32);
    fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
    fd_sync(fd: u32);
    fd_tell(fd: u32, position: u32);
    fd_write(fd: u32, iovecs: u32, count: u32, written: u32);
    path_create_directory(fd: u32, path: u32, length: u32);
    path_filestat_get(fd: u32, lookup: u32, path: u32, length: u32, stat: u32);
    path_filestat_set_times(fd: u32, lookup: u32, path: u32, length: u32, accessed: u64, modified: u64, flags: u32);
    path_link(from_fd: u32, lookup: u32, from: u32, from_length: u32, to_fd: u32, to: u32, to_length: u32);
    path_open(
        fd: u32, lookup: u32, path: u32, length: u32, oflags: u32, base: u64, inheriting: u64, fdflags: u32, opened: u32
    );
    path_readlink(fd: u32, path: u32, length: u32, buffer: u32, buffer_length: u32, used: u32);
    path_remove_directory(fd: u32, path: u32, length: u32);
    path_rename(from_fd: u32, from: u32, from_length: u32, to_fd: u32, to: u32, to_length: u32);
    path_symlink(target: u32, target_length: u32, fd: u32, path: u32, length: u32);
    path_unlink_file(fd: u32, path: u32, length: u32);
    poll_oneoff(subscriptions: u32, events: u32, count: u32, answered: u32);
    proc_raise(signal: u32);
    random_get(buffer: u32, length: u32);
    sched_yield();
    sock_accept(fd: u32, flags: u32, accepted: u32);
    sock_recv(fd: u32, iovecs: u32, count: u32, flags: u32, read: u32, out_flags: u32);
    sock_send(fd: u32, iovecs: u32, count: u32, flags: u32, written: u32);
    sock_shutdown(fd: u32, how: u32);
}

#[cfg(test)]
mod tests;
