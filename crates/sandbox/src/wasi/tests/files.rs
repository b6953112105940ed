//! Descriptors, files and paths.

use super::*;
use vocabulary::tree::{PackEntry, pack};

/// Rights of a descriptor.
fn rights_of(guest: &mut Guest, fd: u64) -> (u64, u64) {
    guest.ok("fd_fdstat_get", &[fd, 32]);
    (guest.u64(40), guest.u64(48))
}

/// Names, inodes and cookies of a piece of a listing, and how much of the buffer was used.
fn list(guest: &mut Guest, fd: u64, length: u64, cookie: u64) -> (Vec<(String, u64, u64)>, u64) {
    let buffer = guest.put(&vec![0xaa; length as usize]);
    guest.ok("fd_readdir", &[fd, buffer, length, cookie, u64::from(RESULT)]);
    let used = guest.u32(RESULT) as usize;
    let bytes = guest.bytes(buffer as u32, used);
    let (mut entries, mut rest) = (Vec::new(), &bytes[..]);
    while rest.len() >= abi::DIRENT_BYTES {
        let long = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        let name_length = long(16) as u32 as usize;
        assert_eq!(rest[21..24], [0; 3], "padding is zeroed");
        let Some(name) = rest.get(24..24 + name_length) else { break };
        entries.push((String::from_utf8(name.to_vec()).unwrap(), long(8), long(0)));
        rest = &rest[24 + name_length..];
    }
    (entries, used as u64)
}

#[test]
fn the_root_is_the_only_preopen_and_is_called_slash() {
    let mut guest = Guest::new(config());
    guest.ok("fd_prestat_get", &[3, 8]);
    assert_eq!(guest.bytes(8, 8), [0, 0, 0, 0, 1, 0, 0, 0]);
    guest.ok("fd_prestat_dir_name", &[3, 64, 5]);
    assert_eq!(guest.bytes(64, 2), b"/\0");
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 64, 0]), Errno::NAMETOOLONG);
    assert_eq!(guest.call("fd_prestat_get", &[4, 8]), Errno::BADF);
    let dot = guest.open_at(3, ".", abi::OFLAGS_DIRECTORY, 0, 0).unwrap();
    assert_eq!(dot, 4);
    assert_eq!(guest.call("fd_prestat_get", &[4, 8]), Errno::BADF);
    guest.ok("fd_close", &[3]);
    assert_eq!(guest.call("fd_prestat_get", &[3, 8]), Errno::BADF);
    assert_eq!(guest.open_at(dot, "tmp", 0, 0, 0), Ok(3), "the lowest number is used again");
}

#[test]
fn files_are_written_sought_and_read() {
    let mut guest = Guest::new(config());
    let fd = guest.create("tmp/f");
    assert_eq!(guest.write(fd, b"hello world"), Ok(11));
    assert_eq!(guest.seek(fd, -5, 2), Ok(6));
    assert_eq!(guest.read(fd, 100).unwrap(), b"world");
    guest.ok("fd_tell", &[fd, 8]);
    assert_eq!(guest.u64(8), 11);
    assert_eq!(guest.seek(fd, -1, 0), Err(Errno::INVAL));
    assert_eq!(guest.seek(fd, 0, 3), Err(Errno::INVAL));
    let at = guest.put(b"HE");
    let list = guest.iovecs(&[(at, 1), (at + 1, 1)]);
    guest.ok("fd_pwrite", &[fd, list, 2, 0, 8]);
    assert_eq!(guest.u32(8), 2);
    let into = guest.put(&[0; 8]);
    let list = guest.iovecs(&[(into, 3), (into + 3, 5)]);
    guest.ok("fd_pread", &[fd, list, 2, 4, 8]);
    assert_eq!(guest.u32(8), 7);
    assert_eq!(guest.bytes(into as u32, 8), b"o world\0");
    guest.ok("fd_pread", &[fd, list, 2, u64::MAX, 8]);
    assert_eq!(guest.u32(8), 0);
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.read(fd, 5).unwrap(), b"HEllo");
}

#[test]
fn appending_ignores_the_position_until_the_flag_is_cleared() {
    let mut guest = Guest::new(config());
    let fd = guest.open_at(3, "f", abi::OFLAGS_CREAT, RW, abi::FDFLAGS_APPEND).unwrap();
    guest.write(fd, b"aa").unwrap();
    guest.seek(fd, 0, 0).unwrap();
    guest.write(fd, b"bb").unwrap();
    assert_eq!(guest.seek(fd, 0, 1), Ok(4));
    guest.ok("fd_fdstat_set_flags", &[fd, 0]);
    guest.seek(fd, 0, 0).unwrap();
    guest.write(fd, b"cc").unwrap();
    guest.seek(fd, 0, 0).unwrap();
    assert_eq!(guest.read(fd, 9).unwrap(), b"ccbb");
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd, 0x20]), Errno::INVAL);
}

#[test]
fn a_full_disk_takes_what_fits_and_then_refuses() {
    let mut guest = Guest::new(WasiConfig {
        limits: Limits { file_bytes: 6, file_count: 2, ..config().limits },
        ..config()
    });
    let fd = guest.create("f");
    let at = guest.put(b"abcdefgh");
    let list = guest.iovecs(&[(at, 4), (at + 4, 4)]);
    guest.ok("fd_write", &[fd, list, 2, u64::from(RESULT)]);
    assert_eq!(guest.u32(RESULT), 6);
    assert_eq!(guest.write(fd, b"x"), Err(Errno::NOSPC));
    assert_eq!(guest.call("fd_allocate", &[fd, 0, 7]), Errno::NOSPC);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd, 7]), Errno::NOSPC);
    assert_eq!(guest.path("path_create_directory", "d"), Errno::SUCCESS);
    assert_eq!(guest.path("path_create_directory", "e"), Errno::NOSPC);
    assert_eq!(guest.open_at(3, "g", abi::OFLAGS_CREAT, RW, 0), Err(Errno::NOSPC));
}

#[test]
fn directories_refuse_what_only_files_do() {
    let mut guest = Guest::new(config());
    let fd = guest.open_at(3, "tmp", abi::OFLAGS_DIRECTORY, rights::FD_READ, 0).unwrap();
    assert_eq!(guest.read(fd, 1), Err(Errno::ISDIR));
    assert_eq!(guest.write(fd, b"x"), Err(Errno::ISDIR));
    assert_eq!(guest.seek(fd, 0, 1), Err(Errno::ISDIR));
    for (name, arguments) in [
        ("fd_tell", &[fd, 8][..]),
        ("fd_allocate", &[fd, 0, 1]),
        ("fd_filestat_set_size", &[fd, 0]),
        ("fd_advise", &[fd, 0, 0, 0]),
        ("fd_pread", &[fd, 64, 0, 0, 8]),
        ("fd_pwrite", &[fd, 64, 0, 0, 8]),
    ] {
        assert_eq!(guest.call(name, arguments), Errno::ISDIR, "{name}");
    }
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd, 0]), Errno::NOTCAPABLE);
    guest.ok("fd_sync", &[fd]);
    for oflags in [0, abi::OFLAGS_DIRECTORY] {
        assert_eq!(guest.open_at(3, ".", oflags, RW, 0), Err(Errno::ISDIR));
    }
    assert_eq!(guest.open_at(3, "tmp", abi::OFLAGS_CREAT, 0, 0), Err(Errno::ISDIR));
}

#[test]
fn files_refuse_what_only_directories_do() {
    let mut guest = Guest::new(config());
    let fd = guest.create("f");
    assert_eq!(guest.open_at(fd, "x", 0, 0, 0), Err(Errno::NOTDIR));
    assert_eq!(guest.call("fd_readdir", &[fd, 64, 64, 0, 8]), Errno::NOTDIR);
    let [at, length] = guest.text("x");
    assert_eq!(guest.call("path_create_directory", &[fd, at, length]), Errno::NOTDIR);
    assert_eq!(guest.open_at(3, "f", abi::OFLAGS_DIRECTORY, 0, 0), Err(Errno::NOTDIR));
    assert_eq!(guest.open_at(3, "f/x", 0, 0, 0), Err(Errno::NOTDIR));
    assert_eq!(guest.open_at(1, "x", 0, 0, 0), Err(Errno::BADF));
}

#[test]
fn opening_checks_its_flags() {
    let mut guest = Guest::new(config());
    let both = abi::OFLAGS_CREAT | abi::OFLAGS_EXCL;
    assert_eq!(guest.open_at(3, "f", 16, RW, 0), Err(Errno::INVAL));
    assert_eq!(guest.open_at(3, "f", 0, RW, 32), Err(Errno::INVAL));
    assert_eq!(guest.open_at(3, "f", abi::OFLAGS_CREAT | abi::OFLAGS_DIRECTORY, 0, 0), Err(Errno::INVAL));
    assert_eq!(guest.open_at(3, "f", 0, RW, 0), Err(Errno::NOENT));
    guest.open_at(3, "f", both, RW, 0).unwrap();
    assert_eq!(guest.open_at(3, "f", both, RW, 0), Err(Errno::EXIST));
    let [at, length] = guest.text("f");
    assert_eq!(guest.call("path_open", &[3, 2, at, length, 0, RW, 0, 0, 8]), Errno::INVAL);
    assert_eq!(guest.open_at(3, "", 0, 0, 0), Err(Errno::NOENT));
    assert_eq!(guest.open_at(3, "f\0", 0, 0, 0), Err(Errno::INVAL));
    assert_eq!(guest.open_at(3, "/f", 0, 0, 0), Err(Errno::PERM));
    assert_eq!(guest.open_at(3, "../f", 0, 0, 0), Err(Errno::PERM));
    assert_eq!(guest.open_at(3, &"f".repeat(256), 0, 0, 0), Err(Errno::NAMETOOLONG));
    assert_eq!(guest.open_at(3, &"f/".repeat(3_000), 0, 0, 0), Err(Errno::NAMETOOLONG));
    let at = guest.put(b"\xff\xfe");
    assert_eq!(guest.call("path_open", &[3, 0, at, 2, 0, RW, 0, 0, 8]), Errno::ILSEQ);
}

#[test]
fn truncating_on_open_empties_the_file() {
    let mut guest = Guest::new(config());
    let fd = guest.create("f");
    guest.write(fd, b"something").unwrap();
    let fd = guest.open_at(3, "f", abi::OFLAGS_TRUNC, RW, 0).unwrap();
    assert_eq!(guest.read(fd, 9).unwrap(), b"");
}

#[test]
fn reading_and_writing_must_be_asked_for() {
    let mut guest = Guest::new(config());
    guest.create("f");
    let reader = guest.open_at(3, "f", 0, rights::FD_READ, 0).unwrap();
    let writer = guest.open_at(3, "f", 0, rights::FD_WRITE, 0).unwrap();
    let neither = guest.open_at(3, "f", 0, 0, 0).unwrap();
    assert_eq!(guest.write(reader, b"x"), Err(Errno::BADF));
    assert_eq!(guest.read(writer, 1), Err(Errno::BADF));
    assert_eq!(guest.read(neither, 1), Err(Errno::BADF));
    assert_eq!(guest.write(neither, b"x"), Err(Errno::BADF));
    assert_eq!(guest.call("fd_filestat_set_size", &[reader, 1]), Errno::NOTCAPABLE);
    assert_eq!(guest.call("fd_allocate", &[reader, 0, 1]), Errno::NOTCAPABLE);
}

#[test]
fn rights_can_be_given_up_and_never_regained() {
    let mut guest = Guest::new(config());
    let fd = guest.create("f");
    let (base, inheriting) = rights_of(&mut guest, fd);
    assert_eq!((base, inheriting), (rights::FILE | rights::FILE_WRITE | rights::FD_READ, 0));
    guest.ok("fd_fdstat_set_rights", &[fd, base & !rights::FD_SEEK, 0]);
    assert_eq!(guest.seek(fd, 1, 0), Err(Errno::NOTCAPABLE));
    assert_eq!(guest.seek(fd, 0, 1), Ok(0), "to ask for the position is another right");
    assert_eq!(guest.call("fd_fdstat_set_rights", &[fd, base, 0]), Errno::NOTCAPABLE);
    // What a directory cannot pass on is missing in what is opened through it, at any depth.
    let (base, inheriting) = rights_of(&mut guest, 3);
    assert_eq!((base, inheriting), (rights::DIRECTORY, rights::INHERITING));
    let less = rights::FD_WRITE | rights::PATH_UNLINK_FILE;
    guest.ok("fd_fdstat_set_rights", &[3, base, inheriting & !less]);
    let tmp = guest.open_at(3, "tmp", 0, base, 0).unwrap();
    let file = guest.open_at(tmp, "g", abi::OFLAGS_CREAT, RW, 0).unwrap();
    assert_eq!(guest.write(file, b"x"), Err(Errno::BADF));
    let [at, length] = guest.text("g");
    assert_eq!(guest.call("path_unlink_file", &[tmp, at, length]), Errno::NOTCAPABLE);
    guest.ok("fd_fdstat_set_rights", &[3, base & !rights::PATH_CREATE_FILE, 0]);
    assert_eq!(guest.open_at(3, "h", abi::OFLAGS_CREAT, RW, 0), Err(Errno::NOTCAPABLE));
}

#[test]
fn stat_tells_what_is_there_with_times_that_only_the_guest_changes() {
    let mut guest = Guest::new(config());
    let fd = guest.create("f");
    guest.write(fd, b"abc").unwrap();
    guest.ok("fd_filestat_get", &[fd, 64]);
    let words: Vec<_> = (0..8).map(|n| guest.u64(64 + n * 8)).collect();
    let start = 1_000_000_000;
    assert_eq!(words, [1, 4, 4, 1, 3, start, start, start]);
    guest.ok("fd_filestat_set_times", &[fd, 7, 9, 1 | 4]);
    let [at, length] = guest.text("f");
    guest.ok("path_filestat_get", &[3, 0, at, length, 64]);
    assert_eq!((guest.u64(104), guest.u64(112), guest.u64(120)), (7, 9, start));
    guest.time(0);
    guest.ok("path_filestat_set_times", &[3, 1, at, length, 0, 0, 2]);
    guest.ok("fd_filestat_get", &[fd, 64]);
    assert_eq!((guest.u64(104), guest.u64(112)), (start + 1_000, 9));
    for flags in [3, 12, 16] {
        assert_eq!(guest.call("fd_filestat_set_times", &[fd, 0, 0, flags]), Errno::INVAL);
        assert_eq!(guest.call("path_filestat_set_times", &[3, 0, at, length, 0, 0, flags]), Errno::INVAL);
    }
    assert_eq!(guest.call("path_filestat_get", &[3, 2, at, length, 64]), Errno::INVAL);
}

#[test]
fn sizes_are_set_and_allocated() {
    let mut guest = Guest::new(config());
    let fd = guest.create("f");
    guest.ok("fd_filestat_set_size", &[fd, 10]);
    guest.ok("fd_allocate", &[fd, 2, 4]);
    guest.ok("fd_filestat_get", &[fd, 64]);
    assert_eq!(guest.u64(96), 10);
    guest.ok("fd_allocate", &[fd, 8, 4]);
    guest.ok("fd_filestat_get", &[fd, 64]);
    assert_eq!(guest.u64(96), 12);
    assert_eq!(guest.read(fd, 20).unwrap(), [0; 12]);
    assert_eq!(guest.call("fd_allocate", &[fd, 0, 0]), Errno::INVAL);
    assert_eq!(guest.call("fd_allocate", &[fd, u64::MAX, 2]), Errno::FBIG);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd, u64::MAX]), Errno::FBIG);
    guest.ok("fd_advise", &[fd, 0, 0, 5]);
    assert_eq!(guest.call("fd_advise", &[fd, 0, 0, 6]), Errno::INVAL);
}

#[test]
fn listings_are_sorted_and_can_be_cut_anywhere() {
    let mut guest = Guest::new(config());
    for name in ["b", "a-long-name", "B", "é"] {
        guest.create(&format!("tmp/{name}"));
    }
    let fd = guest.open_at(3, "tmp", 0, 0, 0).unwrap();
    let (whole, used) = list(&mut guest, fd, 4_096, 0);
    let names: Vec<_> = whole.iter().map(|entry| entry.0.as_str()).collect();
    assert_eq!(names, [".", "..", "B", "a-long-name", "b", "é"]);
    assert_eq!(used, 6 * 24 + 1 + 2 + 1 + 11 + 1 + 2);
    assert_eq!((whole[0].1, whole[1].1), (2, 1), "tmp is the second inode, the root the first");
    // Whatever the size of the buffer, a full one means that there is more, and the last whole entry says where.
    for length in 35..used + 2 {
        let (mut seen, mut cookie) = (Vec::new(), 0);
        loop {
            let (piece, used) = list(&mut guest, fd, length, cookie);
            seen.extend(piece.clone());
            if used < length {
                break;
            }
            cookie = piece.last().expect("35 bytes hold the longest entry").2;
        }
        assert_eq!(seen, whole, "{length}");
    }
    let (piece, used) = list(&mut guest, fd, 10, 0);
    assert_eq!((piece.len(), used), (0, 10));
    assert_eq!(guest.call("fd_readdir", &[fd, 64, 64, 999_999, 8]), Errno::INVAL);
}

#[test]
fn directories_are_made_renamed_and_removed() {
    let mut guest = Guest::new(config());
    assert_eq!(guest.path("path_create_directory", "d"), Errno::SUCCESS);
    assert_eq!(guest.path("path_create_directory", "d"), Errno::EXIST);
    guest.create("d/f");
    assert_eq!(guest.path("path_remove_directory", "d"), Errno::NOTEMPTY);
    assert_eq!(guest.path("path_remove_directory", "d/f"), Errno::NOTDIR);
    assert_eq!(guest.path("path_remove_directory", "none"), Errno::NOENT);
    assert_eq!(guest.path("path_unlink_file", "d"), Errno::ISDIR);
    let ([d, d_length], [e, e_length]) = (guest.text("d"), guest.text("e"));
    guest.ok("path_rename", &[3, d, d_length, 3, e, e_length]);
    assert_eq!(guest.call("path_rename", &[3, d, d_length, 3, e, e_length]), Errno::NOENT);
    let [inside, inside_length] = guest.text("e/x");
    assert_eq!(guest.call("path_rename", &[3, e, e_length, 3, inside, inside_length]), Errno::INVAL);
    assert_eq!(guest.path("path_unlink_file", "e/f"), Errno::SUCCESS);
    assert_eq!(guest.path("path_unlink_file", "e/f"), Errno::NOENT);
    assert_eq!(guest.path("path_remove_directory", "e/"), Errno::SUCCESS);
    assert_eq!(guest.path("path_remove_directory", "."), Errno::INVAL);
}

#[test]
fn links_are_made_read_and_followed() {
    let mut guest = Guest::new(config());
    let fd = guest.create("f");
    let ([f, f_length], [l, l_length], [h, h_length]) = (guest.text("f"), guest.text("l"), guest.text("h"));
    guest.ok("path_symlink", &[f, f_length, 3, l, l_length]);
    let into = guest.put(b"\xee\xee\xee");
    guest.ok("path_readlink", &[3, l, l_length, into, 3, 8]);
    assert_eq!((guest.u32(8), guest.bytes(into as u32, 3)), (1, b"f\xee\xee".to_vec()));
    guest.ok("path_readlink", &[3, l, l_length, into, 0, 8]);
    assert_eq!(guest.u32(8), 0);
    assert_eq!(guest.call("path_readlink", &[3, f, f_length, into, 3, 8]), Errno::INVAL);
    assert_eq!(guest.open_at(3, "l", 0, RW, 0), Err(Errno::LOOP));
    guest.ok("path_open", &[3, 1, l, l_length, 0, RW, 0, 0, 8]);
    guest.ok("path_filestat_get", &[3, 0, l, l_length, 64]);
    assert_eq!(guest.bytes(80, 1), [abi::FILETYPE_SYMBOLIC_LINK]);
    guest.ok("path_link", &[3, 0, f, f_length, 3, h, h_length]);
    guest.ok("fd_filestat_get", &[fd, 64]);
    assert_eq!(guest.u64(88), 2);
    assert_eq!(guest.call("path_link", &[3, 0, f, f_length, 3, h, h_length]), Errno::EXIST);
    let [t, t_length] = guest.text("tmp");
    assert_eq!(guest.call("path_link", &[3, 0, t, t_length, 3, l, l_length]), Errno::EXIST);
    let [n, n_length] = guest.text("n");
    assert_eq!(guest.call("path_link", &[3, 0, t, t_length, 3, n, n_length]), Errno::PERM);
    let [absolute, absolute_length] = guest.text("/f");
    assert_eq!(guest.call("path_symlink", &[absolute, absolute_length, 3, n, n_length]), Errno::PERM);
    // A link to a link, unless it is to be followed.
    guest.ok("path_link", &[3, 0, l, l_length, 3, n, n_length]);
    guest.ok("path_filestat_get", &[3, 0, n, n_length, 64]);
    assert_eq!(guest.bytes(80, 1), [abi::FILETYPE_SYMBOLIC_LINK]);
}

#[test]
fn inputs_cannot_be_changed() {
    let packed = pack([("d/f", PackEntry::File(b"tree"))]).unwrap();
    let mounts = vec![
        ("/in/a".parse().unwrap(), Mount::File(Bytes::from_static(b"file"))),
        ("/t".parse().unwrap(), Mount::Tree(packed.into())),
    ];
    let mut guest = Guest::new(WasiConfig { mounts, ..config() });
    let fd = guest.open_at(3, "t/d/f", 0, rights::FD_READ, 0).unwrap();
    assert_eq!(guest.read(fd, 9).unwrap(), b"tree");
    for path in ["in/a", "t/d/f"] {
        assert_eq!(guest.open_at(3, path, 0, RW, 0), Err(Errno::ROFS));
        assert_eq!(guest.open_at(3, path, abi::OFLAGS_TRUNC, rights::FD_READ, 0), Err(Errno::ROFS));
        assert_eq!(guest.path("path_unlink_file", path), Errno::ROFS);
        let [at, length] = guest.text(path);
        assert_eq!(guest.call("path_filestat_set_times", &[3, 0, at, length, 0, 0, 1]), Errno::ROFS);
        let [new, new_length] = guest.text("out/new");
        assert_eq!(guest.call("path_rename", &[3, at, length, 3, new, new_length]), Errno::ROFS);
        assert_eq!(guest.call("path_link", &[3, 0, at, length, 3, new, new_length]), Errno::XDEV);
    }
    assert_eq!(guest.open_at(3, "t/new", abi::OFLAGS_CREAT, RW, 0), Err(Errno::ROFS));
    assert_eq!(guest.path("path_create_directory", "t/d/new"), Errno::ROFS);
    assert_eq!(guest.call("fd_filestat_set_times", &[fd, 0, 0, 1]), Errno::ROFS);
    guest.create("in/b");
}

#[test]
fn renumbering_replaces_a_descriptor_also_a_stream() {
    let mut guest = Guest::new(config());
    let (a, b) = (guest.create("a"), guest.create("b"));
    guest.write(a, b"in a").unwrap();
    guest.ok("fd_renumber", &[a, b]);
    assert_eq!(guest.call("fd_close", &[a]), Errno::BADF);
    assert_eq!(guest.seek(b, 0, 1), Ok(4), "the position moves along");
    assert_eq!(guest.call("fd_renumber", &[b, a]), Errno::BADF);
    assert_eq!(guest.call("fd_renumber", &[a, b]), Errno::BADF);
    guest.ok("fd_renumber", &[b, b]);
    let out = guest.create("out/stdout");
    guest.ok("fd_renumber", &[out, 1]);
    assert_eq!(guest.write(1, b"to the file"), Ok(11));
    guest.ok("fd_renumber", &[1, 3]);
    assert_eq!(guest.call("fd_prestat_get", &[3, 8]), Errno::BADF);
    let output = guest.finish();
    assert!(output.stdout.is_empty());
    assert_eq!(output.files.unwrap(), [("/out/stdout".parse().unwrap(), Bytes::from("to the file"))]);
}

#[test]
fn a_guest_has_at_most_1024_descriptors() {
    let mut guest = Guest::new(config());
    for fd in 4..table::DESCRIPTORS_MAX as u64 {
        assert_eq!(guest.open_at(3, "tmp", 0, 0, 0), Ok(fd));
        guest.free = 1_024;
    }
    assert_eq!(guest.open_at(3, "tmp", 0, 0, 0), Err(Errno::MFILE));
    assert_eq!(guest.open_at(3, "new", abi::OFLAGS_CREAT, RW, 0), Err(Errno::MFILE));
    guest.ok("fd_close", &[500]);
    assert_eq!(guest.open_at(3, "new", 0, 0, 0), Err(Errno::NOENT), "nothing was made before");
    assert_eq!(guest.open_at(3, "tmp", 0, 0, 0), Ok(500));
}
