//! `lockstep runner --self-test`: confines a process as a runner is confined, tries what a guest that broke out would
//! try, and prints how each attempt ended. Each probe has a process of its own, because the kernel kills it.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Stdio};

use super::confine;

/// The argument that asks for it.
pub(super) const FLAG: &str = "--self-test";

/// What is tried, by name. `compute` must be allowed, everything else must not.
const PROBES: &[(&str, fn())] = &[
    ("compute", || {
        let sum: u64 = std::hint::black_box(1..1_000_u64).sum();
        assert_eq!(sum, 499_500);
    }),
    ("open a file", || drop(std::fs::File::open("/proc/self/status"))),
    ("list a directory", || drop(std::fs::read_dir("/"))),
    ("remove a file", || drop(std::fs::remove_file("/nonexistent"))),
    ("make a socket", || drop(std::net::UdpSocket::bind("127.0.0.1:0"))),
    ("start a program", || drop(Command::new("/bin/true").spawn())),
    ("start a thread", || drop(std::thread::Builder::new().spawn(|| ()))),
    ("signal another process", || {
        let _ = rustix::process::getppid().map(rustix::process::test_kill_process);
    }),
    ("have a signal sent when a descriptor is ready", || {
        let _ = rustix::fs::fcntl_setfl(std::io::stderr(), rustix::fs::OFlags::ASYNC);
    }),
    ("the same by another door", || {
        let _ = rustix::io::ioctl_fionbio(std::io::stderr(), false);
    }),
    ("undo its own limits", || {
        let _ = rustix::process::setrlimit(
            rustix::process::Resource::Core,
            rustix::process::getrlimit(rustix::process::Resource::Core),
        );
    }),
];

/// Runs every probe, or in a child of that the one named.
pub(super) fn main(probe: Option<&str>) -> ExitCode {
    match probe {
        Some(name) => run(name),
        None => run_all(),
    }
}

fn run(name: &str) -> ExitCode {
    let Some((_, probe)) = PROBES.iter().find(|(known, _)| *known == name) else {
        return ExitCode::FAILURE;
    };
    match confine(None) {
        Ok(_sandbox) => {
            probe();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("runner: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_all() -> ExitCode {
    let mut as_wanted = true;
    let mut report = String::new();
    for (name, _) in PROBES {
        let result = end_of(name);
        let verdict = match &result {
            Ok(status) if status.success() => "allowed".to_owned(),
            Ok(status) if status.signal() == Some(libc::SIGSYS) => "refused".to_owned(),
            Ok(status) => format!("ended otherwise: {status}"),
            Err(error) => format!("could not be tried: {error}"),
        };
        let wanted = if *name == "compute" { "allowed" } else { "refused" };
        as_wanted &= verdict == wanted;
        report.push_str(&format!("{name}: {verdict}\n"));
    }
    let written = std::io::stdout().write_all(report.as_bytes());
    if as_wanted && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn end_of(name: &str) -> std::io::Result<std::process::ExitStatus> {
    Command::new("/proc/self/exe")
        .args(["runner", FLAG, name])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
}
