//! A confined process, for real: each test starts itself again as a process of its own, because what it does to
//! that process cannot be undone.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use rustix::process::Pid;

use super::testing::in_its_own_process;
use super::{Profile, Resources, close_descriptors_above, confine, limit_resources};

fn confined() {
    let profile = Profile {
        last_descriptor: 2,
        resources: Resources { cpu_s: Some(2), ..Resources::default() },
        extra_calls: &[],
        executable_memory: false,
    };
    confine(&profile, None).unwrap();
}

const SIGSYS: i32 = 31;

#[test]
fn a_confined_process_computes_and_ends() {
    let name = "tests::a_confined_process_computes_and_ends";
    let status = in_its_own_process(name, || {
        confined();
        let numbers: Vec<u64> = (0..1_000_000).collect();
        assert_eq!(numbers.iter().sum::<u64>(), 499_999_500_000);
    });
    assert!(status.success());
}

#[test]
fn opening_a_file_kills_it() {
    let status = in_its_own_process("tests::opening_a_file_kills_it", || {
        confined();
        drop(std::fs::File::open("/dev/null"));
    });
    assert_eq!(status.signal(), Some(SIGSYS));
}

#[test]
fn making_a_socket_kills_it() {
    let status = in_its_own_process("tests::making_a_socket_kills_it", || {
        confined();
        drop(std::net::UdpSocket::bind("127.0.0.1:0"));
    });
    assert_eq!(status.signal(), Some(SIGSYS));
}

#[test]
fn starting_a_program_kills_it() {
    let status = in_its_own_process("tests::starting_a_program_kills_it", || {
        confined();
        drop(Command::new("/bin/true").spawn());
    });
    assert_eq!(status.signal(), Some(SIGSYS));
}

#[test]
fn executable_memory_kills_it() {
    let status = in_its_own_process("tests::executable_memory_kills_it", || {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        confined();
        #[expect(unsafe_code, reason = "the call itself is what is tested, and it never returns")]
        // SAFETY: a new anonymous mapping disturbs nothing.
        let mapped = unsafe {
            mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE)
        };
        assert!(mapped.is_err(), "unreachable: the process is dead");
    });
    assert_eq!(status.signal(), Some(SIGSYS));
}

#[test]
fn signalling_another_process_kills_it() {
    let status = in_its_own_process("tests::signalling_another_process_kills_it", || {
        let parent = rustix::process::getppid().unwrap();
        confined();
        let _ = rustix::process::test_kill_process(parent);
    });
    assert_eq!(status.signal(), Some(SIGSYS));
}

#[test]
fn aborting_is_told_from_a_violation() {
    let status = in_its_own_process("tests::aborting_is_told_from_a_violation", || {
        confined();
        std::process::abort();
    });
    assert_eq!(status.signal(), Some(6));
}

#[test]
fn cpu_time_ends_with_its_own_signal() {
    let status = in_its_own_process("tests::cpu_time_ends_with_its_own_signal", || {
        limit_resources(&Resources { cpu_s: Some(1), ..Resources::default() }).unwrap();
        loop {
            std::hint::spin_loop();
        }
    });
    assert_eq!(status.signal(), Some(24), "SIGXCPU");
}

#[test]
fn a_process_whose_parent_is_another_refuses_to_go_on() {
    let name = "tests::a_process_whose_parent_is_another_refuses_to_go_on";
    let status = in_its_own_process(name, || {
        let me = rustix::process::getpid();
        assert!(super::die_with_parent(Some(me)).is_err());
        let parent: Pid = rustix::process::getppid().unwrap();
        assert!(super::die_with_parent(Some(parent)).is_ok());
    });
    assert!(status.success());
}

#[test]
fn descriptors_above_the_last_are_closed() {
    let status = in_its_own_process("tests::descriptors_above_the_last_are_closed", || {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let held: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let before = open();
        // Their numbers are gone; so that they are not closed again, they are forgotten.
        std::mem::forget(held);
        close_descriptors_above(2).unwrap();
        assert!(open() <= 4 && before >= 13, "{before} then {}", open());
    });
    assert!(status.success());
}
