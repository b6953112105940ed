//! Guests that mean harm: bad pointers, bad descriptors, and anything at all.

use proptest::prelude::*;

use super::*;

/// The memory of the guest in bytes: two pages.
const SIZE: u64 = 131_072;

fn is_fault(guest: &mut Guest, name: &str, arguments: &[u64]) -> bool {
    match guest.try_call(name, arguments) {
        Ok(_) => false,
        Err(error) => error.is::<HostAbiError>(),
    }
}

#[test]
fn pointers_out_of_the_memory_are_faults_of_the_guest() {
    let mut guest = Guest::new(config());
    let fd = guest.create("tmp/f");
    for bad in [SIZE, SIZE - 1, u64::from(u32::MAX), u64::from(u32::MAX) & !7, 1 << 31] {
        assert!(is_fault(&mut guest, "args_sizes_get", &[bad, 8]), "{bad:#x}");
        assert!(is_fault(&mut guest, "args_get", &[bad, 8]), "{bad:#x}");
        assert!(is_fault(&mut guest, "random_get", &[bad, 8]), "{bad:#x}");
        assert!(is_fault(&mut guest, "random_get", &[8, bad]), "{bad:#x}");
        assert!(is_fault(&mut guest, "clock_time_get", &[0, 0, bad]), "{bad:#x}");
        assert!(is_fault(&mut guest, "fd_write", &[fd, bad, 1, 8]), "{bad:#x}");
        assert!(is_fault(&mut guest, "fd_readdir", &[3, bad, 64, 0, 8]), "{bad:#x}");
        assert!(is_fault(&mut guest, "path_unlink_file", &[3, bad, 4]), "{bad:#x}");
        assert!(is_fault(&mut guest, "fd_fdstat_get", &[fd, bad]), "{bad:#x}");
        assert!(is_fault(&mut guest, "fd_filestat_get", &[fd, bad]), "{bad:#x}");
        assert!(is_fault(&mut guest, "poll_oneoff", &[bad, 64, 1, 8]), "{bad:#x}");
        let list = guest.iovecs(&[(bad & 0xffff_ffff, 4)]);
        assert!(is_fault(&mut guest, "fd_write", &[fd, list, 1, 8]), "{bad:#x}");
        assert!(is_fault(&mut guest, "fd_write", &[1, list, 1, 8]), "{bad:#x}");
        guest.ok("fd_read", &[fd, guest.free as u64 - 8, 0, 8]);
    }
    assert!(is_fault(&mut guest, "fd_read", &[0, 64, 1_024, SIZE - 2]));
}

#[test]
fn pointers_that_are_not_aligned_are_faults_of_the_guest() {
    let mut guest = Guest::new(config());
    assert!(is_fault(&mut guest, "clock_time_get", &[0, 0, 12]));
    assert!(is_fault(&mut guest, "args_sizes_get", &[10, 16]));
    assert!(is_fault(&mut guest, "fd_write", &[1, 66, 0, 8]));
    assert!(is_fault(&mut guest, "fd_filestat_get", &[3, 68]));
    assert!(is_fault(&mut guest, "poll_oneoff", &[68, 128, 1, 8]));
}

#[test]
fn buffer_lists_are_bounded_in_number_and_in_sum() {
    let mut guest = Guest::new(config());
    let list = guest.put(&[0; 1_025 * 8]);
    assert_eq!(guest.call("fd_write", &[1, list, 1_025, 8]), Errno::INVAL);
    guest.ok("fd_write", &[1, list, 1_024, 8]);
    assert_eq!(guest.call("fd_write", &[1, list, u64::from(u32::MAX), 8]), Errno::INVAL);
    let half = u64::from(u32::MAX / 2 + 1);
    let list = guest.iovecs(&[(0, half), (0, half)]);
    assert_eq!(guest.call("fd_write", &[1, list, 2, 8]), Errno::INVAL);
    assert_eq!(guest.call("fd_read", &[0, list, 2, 8]), Errno::INVAL);
}

#[test]
fn a_guest_may_read_over_its_own_list_of_buffers() {
    // The first buffer is the list itself: what arrives there makes the second one enormous.
    let input = [[0xff; 8], [0xff; 8]].concat();
    let mut guest = Guest::new(WasiConfig { stdin: input.into(), ..config() });
    let list = guest.put(&[0; 16]);
    let entries = [(list | 16 << 32).to_le_bytes(), (64 | 8_u64 << 32).to_le_bytes()].concat();
    guest.memory()[list as usize..list as usize + 16].copy_from_slice(&entries);
    assert!(is_fault(&mut guest, "fd_read", &[0, list, 2, 8]));
}

#[test]
fn descriptors_that_are_not_open_are_badf_everywhere() {
    let mut guest = Guest::new(config());
    let [path, length] = guest.text("p");
    for fd in [4, 99, 1_024, 1 << 31, u64::from(u32::MAX)] {
        let calls: &[(&str, &[u64])] = &[
            ("fd_advise", &[fd, 0, 0, 0]),
            ("fd_allocate", &[fd, 0, 1]),
            ("fd_close", &[fd]),
            ("fd_datasync", &[fd]),
            ("fd_fdstat_get", &[fd, 64]),
            ("fd_fdstat_set_flags", &[fd, 0]),
            ("fd_fdstat_set_rights", &[fd, 0, 0]),
            ("fd_filestat_get", &[fd, 64]),
            ("fd_filestat_set_size", &[fd, 0]),
            ("fd_filestat_set_times", &[fd, 0, 0, 0]),
            ("fd_pread", &[fd, 64, 0, 0, 8]),
            ("fd_prestat_get", &[fd, 64]),
            ("fd_prestat_dir_name", &[fd, 64, 1]),
            ("fd_pwrite", &[fd, 64, 0, 0, 8]),
            ("fd_read", &[fd, 64, 0, 8]),
            ("fd_readdir", &[fd, 64, 64, 0, 8]),
            ("fd_renumber", &[fd, 1]),
            ("fd_renumber", &[1, fd]),
            ("fd_seek", &[fd, 0, 0, 8]),
            ("fd_sync", &[fd]),
            ("fd_tell", &[fd, 8]),
            ("fd_write", &[fd, 64, 0, 8]),
            ("path_create_directory", &[fd, path, length]),
            ("path_filestat_get", &[fd, 0, path, length, 64]),
            ("path_filestat_set_times", &[fd, 0, path, length, 0, 0, 0]),
            ("path_link", &[fd, 0, path, length, 3, path, length]),
            ("path_link", &[3, 0, path, length, fd, path, length]),
            ("path_open", &[fd, 0, path, length, 0, 0, 0, 0, 8]),
            ("path_readlink", &[fd, path, length, 64, 8, 8]),
            ("path_remove_directory", &[fd, path, length]),
            ("path_rename", &[fd, path, length, 3, path, length]),
            ("path_rename", &[3, path, length, fd, path, length]),
            ("path_symlink", &[path, length, fd, path, length]),
            ("path_unlink_file", &[fd, path, length]),
            ("sock_shutdown", &[fd, 0]),
        ];
        for (name, arguments) in calls {
            assert_eq!(guest.call(name, arguments), Errno::BADF, "{name}({fd})");
        }
    }
}

#[test]
fn a_guest_without_a_memory_is_at_fault_when_one_is_needed() {
    let (engine, linker, _) = module();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (func (export "yield") (result i32) call $yield)
        (func (export "random") (result i32) i32.const 0 i32.const 1 call $random))"#;
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut store = Store::new(&engine, WasiState::new(config()).unwrap());
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let mut call = |name| instance.get_typed_func::<(), u32>(&mut store, name).unwrap().call(&mut store, ());
    assert_eq!(call("yield").unwrap(), 0);
    assert!(call("random").unwrap_err().is::<HostAbiError>());
}

/// Arguments that hit something: small numbers, places of texts, and the ends of the ranges.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..8_u64,
        4 => (0..8_u64).prop_map(|n| 256 + n * 16),
        1 => (0..64_u64).prop_map(|n| n * 8),
        1 => prop_oneof![Just(SIZE), Just(SIZE - 8), Just(u64::MAX), Just(1 << 31), Just(0x7fff_fff8), Just(1 << 40)],
        1 => any::<u64>(),
    ]
}

/// Calls by index of the function.
fn calls() -> impl Strategy<Value = Vec<(usize, Vec<u64>)>> {
    proptest::collection::vec((1..FUNCTIONS.len(), proptest::collection::vec(argument(), 9)), 1..200)
}

/// Makes the calls and gives everything that can be observed: answers, the memory, and what is left.
fn observe(
    prepared: &(Engine, Linker<WasiState>, Module),
    calls: &[(usize, Vec<u64>)],
) -> (Vec<String>, Vec<u8>, String) {
    let (engine, linker, module) = prepared;
    let state = WasiState::new(WasiConfig { stdin: "some input".into(), ..config() }).unwrap();
    let mut store = Store::new(engine, state);
    let instance = linker.instantiate(&mut store, module).unwrap();
    let mut guest = Guest { store, instance, free: 1_024 };
    for (index, text) in ["a", "b", "a/b", "tmp", "out/x", "..", "tmp/../a/", "out"].iter().enumerate() {
        guest.memory()[256 + index * 16..][..text.len()].copy_from_slice(text.as_bytes());
    }
    let mut answers = Vec::new();
    for (index, arguments) in calls {
        let name = FUNCTIONS[*index];
        let count = guest.instance.get_func(&mut guest.store, name).unwrap().ty(&guest.store).params().len();
        answers.push(match guest.try_call(name, &arguments[..count]) {
            Ok(errno) => format!("{name} {}", errno.0),
            Err(error) if error.is::<HostAbiError>() || error.is::<OutputLimitReached>() => {
                format!("{name} ended")
            }
            Err(error) => panic!("{name}: {error:#}"),
        });
    }
    let memory = guest.memory().to_vec();
    (answers, memory, format!("{:?}", guest.finish()))
}

#[test]
fn whatever_a_guest_calls_it_gets_an_answer_and_the_same_one_again() {
    let prepared = module();
    proptest!(ProptestConfig::with_cases(200), |(calls in calls())| {
        prop_assert_eq!(observe(&prepared, &calls), observe(&prepared, &calls));
    });
}
