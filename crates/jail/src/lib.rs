//! Takes rights away from the calling process, for good: what the hidden child roles do before they touch a byte
//! that somebody else made.
//!
//! Invariant: nothing here can be undone by the process itself. A child calls [`confine`] first thing in its `main`,
//! while it has one thread and holds nothing but its inherited descriptors; afterwards it computes, reads and
//! writes those descriptors, and any other request to the kernel kills it with `SIGSYS`.
//!
//! It does not know what the child does, nor why: a role describes its needs in a [`Profile`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What a role needs; everything else is taken from it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The highest inherited descriptor that stays open.
    pub last_descriptor: RawFd,
    /// Bounds of the kernel.
    pub resources: Resources,
    /// System calls beyond [`BASE_CALLS`].
    pub extra_calls: &'static [Call],
    /// Whether memory may become executable: a runner maps machine code, a compiler only writes it.
    pub executable_memory: bool,
}

/// A system call that is allowed, by its number (`libc::SYS_…`).
#[derive(Clone, Copy, Debug)]
pub struct Call {
    number: i64,
    /// Which argument decides, and the values of it that are allowed.
    only: Option<(u8, &'static [u64])>,
}

impl Call {
    /// Allowed whatever its arguments are.
    pub const fn any(number: i64) -> Call {
        Call { number, only: None }
    }

    /// Allowed if the argument at this position (counted from 0) is one of these: for calls that are many in one, as
    /// `fcntl` and `ioctl`, which among other things let a process have signals sent to others.
    pub const fn only(number: i64, argument: u8, values: &'static [u64]) -> Call {
        Call { number, only: Some((argument, values)) }
    }
}

/// Bounds that the kernel keeps; `None` leaves what was inherited. Core dumps are always off, because they would
/// write a guest's memory to a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// CPU time of the whole process in seconds; then it gets `SIGXCPU`, a second later `SIGKILL` (`RLIMIT_CPU`).
    pub cpu_s: Option<u64>,
    /// Address space in bytes (`RLIMIT_AS`): counts reservations, so only for roles that reserve little.
    pub address_space_bytes: Option<u64>,
    /// The longest file that it can write, in bytes (`RLIMIT_FSIZE`).
    pub file_bytes: Option<u64>,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub descriptors: Option<u64>,
}

/// Why a process could not be confined. It must end at once.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Kernel {
        /// Which.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The parent ended before its death could be watched.
    #[error("the parent process is gone")]
    Orphaned,
    /// The filter could not be made or installed.
    #[error("seccomp: {0}")]
    Seccomp(String),
}

/// System calls of a process that computes and talks over descriptors that it already has: memory, threads' waiting,
/// signals, time, and reading and writing. None of them names a file, a process or an address.
pub const BASE_CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Does all of it, in the order that lets each step work. Only for a process with one thread.
///
/// # Errors
///
/// Any step that the kernel refuses; the process is then in an undefined state between free and confined.
pub fn confine(profile: &Profile, parent: Option<Pid>) -> Result<(), JailError> {
    die_with_parent(parent)?;
    close_descriptors_above(profile.last_descriptor)?;
    limit_resources(&profile.resources)?;
    forbid_new_privileges()?;
    install_seccomp(profile.extra_calls, profile.executable_memory)
}

/// Has the kernel kill this process when the *thread* that started it ends (`PR_SET_PDEATHSIG`): whoever starts
/// children must do so from a thread that lives as long as it wants them. `parent` is who that was believed to be.
///
/// # Errors
///
/// [`JailError::Orphaned`] if the parent ended before the signal was armed.
pub fn die_with_parent(parent: Option<Pid>) -> Result<(), JailError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| refused("PR_SET_PDEATHSIG", errno))?;
    // Between fork and the line above the parent may have died: then no signal will ever come.
    let now = rustix::process::getppid();
    if now.is_none() || parent.is_some_and(|parent| now != Some(parent)) {
        return Err(JailError::Orphaned);
    }
    Ok(())
}

/// Closes every descriptor above `last`: whatever this process inherited from a parent's parent by accident.
/// Must come before anything in this process opens a descriptor of its own.
///
/// # Errors
///
/// The kernel's refusal (`close_range` exists since Linux 5.9).
pub fn close_descriptors_above(last: RawFd) -> Result<(), JailError> {
    let first = libc::c_uint::try_from(last + 1).map_err(|_| JailError::Kernel {
        step: "close_range",
        source: io::Error::from(io::ErrorKind::InvalidInput),
    })?;
    #[expect(
        unsafe_code,
        reason = "no safe wrapper exists. Sound because a role calls it before any of its code owns a descriptor above \
                  `last`, so that no `OwnedFd` loses its descriptor"
    )]
    // SAFETY: the call takes three integers and touches no memory; the reason above covers I/O safety.
    let answer = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    if answer != 0 {
        return Err(JailError::Kernel { step: "close_range", source: io::Error::last_os_error() });
    }
    Ok(())
}

/// Sets the bounds so that they cannot be raised again.
///
/// # Errors
///
/// The kernel's refusal.
pub fn limit_resources(resources: &Resources) -> Result<(), JailError> {
    let wanted = [
        ("RLIMIT_CORE", Resource::Core, Some(0)),
        ("RLIMIT_CPU", Resource::Cpu, resources.cpu_s),
        ("RLIMIT_AS", Resource::As, resources.address_space_bytes),
        ("RLIMIT_FSIZE", Resource::Fsize, resources.file_bytes),
        ("RLIMIT_NOFILE", Resource::Nofile, resources.descriptors),
    ];
    for (step, resource, bound) in wanted {
        let Some(bound) = bound else { continue };
        // A bound that was inherited and is tighter stays.
        let inherited = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let bound = bound.min(inherited);
        // The second between the two tells a parent which bound it was: only the soft one sends `SIGXCPU`.
        let grace = u64::from(resource == Resource::Cpu);
        let maximum = Some(bound.saturating_add(grace).min(inherited));
        rustix::process::setrlimit(resource, Rlimit { current: Some(bound), maximum })
            .map_err(|errno| refused(step, errno))?;
    }
    Ok(())
}

/// No program that this process might start could gain rights by it (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
///
/// The kernel's refusal.
pub fn forbid_new_privileges() -> Result<(), JailError> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| refused("PR_SET_NO_NEW_PRIVS", errno))
}

/// From here on, a system call that is neither in [`BASE_CALLS`] nor in `extra_calls` kills the process with `SIGSYS`.
/// `mmap` and `mprotect` are allowed, without `PROT_EXEC` unless `executable_memory`; `tgkill` on the process itself,
/// because that is how a program aborts.
///
/// # Errors
///
/// If this machine's architecture is unknown to the filter, or the kernel refuses it.
pub fn install_seccomp(extra_calls: &[Call], executable_memory: bool) -> Result<(), JailError> {
    // The first asking reads the auxiliary vector, by a call that is refused from here on; later ones remember.
    let _ = rustix::param::page_size();
    let program = filter(extra_calls, executable_memory)?;
    seccompiler::apply_filter_all_threads(&program).map_err(seccomp_error)
}

fn filter(extra_calls: &[Call], executable_memory: bool) -> Result<BpfProgram, JailError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        BASE_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    for Call { number, only } in extra_calls {
        let one_of = |(argument, values): (u8, &[u64])| {
            values.iter().map(|value| rule(argument, SeccompCmpOp::Eq, *value)).collect()
        };
        let allowed: Vec<SeccompRule> = only.map_or(Ok(Vec::new()), one_of)?;
        rules.entry(*number).or_default().extend(allowed);
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let rule = if executable_memory { Vec::new() } else { vec![without_exec()?] };
        rules.insert(call, rule);
    }
    rules.insert(libc::SYS_tgkill, vec![on_itself()?]);
    let architecture = std::env::consts::ARCH.try_into().map_err(seccomp_error)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(seccomp_error)
}

/// The protection is the third argument of both `mmap` and `mprotect`.
fn without_exec() -> Result<SeccompRule, JailError> {
    rule(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)
}

/// The process is the first argument of `tgkill`.
fn on_itself() -> Result<SeccompRule, JailError> {
    rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, JailError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(seccomp_error)
}

fn refused(step: &'static str, errno: rustix::io::Errno) -> JailError {
    JailError::Kernel { step, source: errno.into() }
}

fn seccomp_error(error: impl std::fmt::Display) -> JailError {
    JailError::Seccomp(error.to_string())
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
