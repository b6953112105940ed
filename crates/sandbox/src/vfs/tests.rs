//! Tests of the file system by itself: semantics and limits.

mod model;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use vocabulary::tree::{PackEntry, pack};

const START_NS: u64 = 1_000_000;
const READ_WRITE: Access = Access { read: true, write: true };
const CREATE: OpenOptions = OpenOptions {
    access: READ_WRITE,
    follow: false,
    create: true,
    exclusive: false,
    directory: false,
    truncate: false,
};
const READ: OpenOptions =
    OpenOptions { access: Access { read: true, write: false }, create: false, ..CREATE };

fn limits(file_bytes: u64, file_count: u32) -> Limits {
    Limits { file_bytes, file_count, ..Limits::default() }
}

fn mounted(limits: Limits, mounts: Vec<(&str, Mount)>) -> Result<(Vfs, OpenId), MountError> {
    let mounts = mounts.into_iter().map(|(path, mount)| (path.parse().unwrap(), mount));
    let mut vfs = Vfs::new(&limits, START_NS, mounts)?;
    let root = vfs.open_root();
    Ok((vfs, root))
}

fn fresh() -> (Vfs, OpenId) {
    mounted(limits(1_000, 100), vec![]).unwrap()
}

fn file(bytes: &'static [u8]) -> Mount {
    Mount::File(Bytes::from_static(bytes))
}

fn tree(entries: &[(&str, PackEntry<'_>)]) -> Mount {
    Mount::Tree(pack(entries.iter().copied()).unwrap().into())
}

impl Vfs {
    fn write_file(&mut self, base: OpenId, path: &str, bytes: &[u8]) -> Result<(), FsError> {
        let open = self.open(base, path, OpenOptions { truncate: true, ..CREATE })?;
        let written = self.write(open, bytes);
        self.close(open);
        assert_eq!(written?, bytes.len());
        Ok(())
    }

    fn read_file(&mut self, base: OpenId, path: &str) -> Result<Vec<u8>, FsError> {
        let open = self.open(base, path, READ)?;
        let mut buffer = [0; 100];
        let read = self.read(open, &mut buffer);
        self.close(open);
        Ok(buffer[..read?].to_vec())
    }

    fn names_in(&mut self, base: OpenId, path: &str) -> Result<Vec<String>, FsError> {
        let open = self.open(base, path, OpenOptions { directory: true, ..READ })?;
        let mut names = Vec::new();
        self.list(open, 0, |entry| {
            names.push(entry.name.to_owned());
            ControlFlow::Continue(())
        })?;
        self.close(open);
        Ok(names.split_off(2))
    }

    /// Recomputes from the inodes what is kept incrementally.
    fn check(&self) {
        let (mut bytes, mut count, mut seen) = (0, 0, BTreeMap::new());
        let mut pending = vec![(self.root, 0)];
        while let Some((id, length)) = pending.pop() {
            let Some(dir) = self.nodes[id].dir() else { continue };
            if !self.nodes[id].read_only {
                assert_eq!(dir.path_length, length);
            }
            for (name, entry) in &dir.entries {
                *seen.entry(entry.node).or_insert(0) += 1;
                let node = &self.nodes[entry.node];
                if node.charged {
                    bytes += node.size();
                    count += 1;
                }
                if let Some(below) = node.dir() {
                    assert_eq!(below.parent, id);
                    pending.push((entry.node, length + 1 + name.len()));
                }
            }
        }
        for (id, links) in seen {
            assert_eq!(self.nodes[id].links, links);
        }
        assert_eq!((self.bytes_used, self.count_used), (bytes, count), "nothing unlinked may be open here");
    }
}

#[test]
fn a_plain_file_system_has_a_root_with_tmp_and_out() {
    let (mut vfs, root) = fresh();
    assert_eq!(vfs.names_in(root, ".").unwrap(), ["out", "tmp"]);
    let stat = vfs.stat_at(root, "tmp", false).unwrap();
    let times = Times { accessed_ns: START_NS, modified_ns: START_NS, changed_ns: START_NS };
    assert_eq!(stat, Stat { inode: 2, file_type: FileType::Directory, links: 1, size: 0, times });
    vfs.check();
}

#[test]
fn inputs_are_read_only_and_shared_with_their_blobs() {
    let blob = Bytes::from(vec![7; 64]);
    let mount =
        vec![("/data/a", Mount::File(blob.clone())), ("/tree", tree(&[("d/f", PackEntry::File(b"x"))]))];
    let (mut vfs, root) = mounted(limits(1_000, 100), mount).unwrap();
    assert_eq!(vfs.read_file(root, "data/a").unwrap(), blob);
    assert_eq!(vfs.read_file(root, "tree/d/f").unwrap(), b"x");
    let Body::File(Content::Mapped(bytes)) = &{ vfs.resolve(NodeId::ROOT, "data/a", path::Last::Look) }
        .map(|resolved| &vfs.nodes[resolved.node.unwrap()].body)
        .unwrap()
    else {
        panic!("an input is mapped")
    };
    assert_eq!(bytes.as_ptr(), blob.as_ptr());

    let write = OpenOptions { access: READ_WRITE, ..READ };
    assert_eq!(vfs.open(root, "data/a", write).unwrap_err(), FsError::ReadOnly);
    assert_eq!(
        vfs.open(root, "data/a", OpenOptions { truncate: true, ..READ }).unwrap_err(),
        FsError::ReadOnly
    );
    assert_eq!(vfs.open(root, "tree/new", CREATE).unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.create_directory(root, "tree/d/new").unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.unlink(root, "data/a").unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.unlink(root, "tree/d/f").unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.remove_directory(root, "tree").unwrap_err(), FsError::NotEmpty);
    assert_eq!(vfs.rename(root, "data/a", root, "b").unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.rename(root, "tree/d", root, "b").unwrap_err(), FsError::ReadOnly);
    vfs.write_file(root, "mine", b"1").unwrap();
    assert_eq!(vfs.rename(root, "mine", root, "data/a").unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.link(root, "data/a", false, root, "out/a").unwrap_err(), FsError::CrossDevice);
    assert_eq!(vfs.link(root, "mine", false, root, "tree/mine").unwrap_err(), FsError::ReadOnly);
    assert_eq!(vfs.set_times_at(root, "data/a", true, Some(1), None).unwrap_err(), FsError::ReadOnly);
    // Around an input the guest may write, and move the directory that it is in.
    vfs.write_file(root, "data/b", b"2").unwrap();
    vfs.rename(root, "data", root, "moved").unwrap();
    assert_eq!(vfs.read_file(root, "moved/a").unwrap(), blob);
    vfs.check();
}

#[test]
fn mounts_may_not_meet_nor_hold_too_much() {
    let taken = |mounts| matches!(mounted(limits(0, 0), mounts), Err(MountError::Taken(_)));
    assert!(taken(vec![("/a", file(b"")), ("/a", file(b""))]));
    assert!(taken(vec![("/a", file(b"")), ("/a/b", file(b""))]));
    assert!(taken(vec![("/a", tree(&[])), ("/a/b", file(b""))]));
    assert!(taken(vec![("/a/b", file(b"")), ("/a", tree(&[]))]));
    assert!(taken(vec![("/tmp", file(b""))]));
    assert!(matches!(
        mounted(limits(0, 0), vec![("/a", file(b"")), ("/t", Mount::Tree(Bytes::from_static(b"no tree")))]),
        Err(MountError::Tree { .. })
    ));
    let half: Vec<String> = (0..TREE_ENTRIES_MAX / 2 + 1).map(|n| n.to_string()).collect();
    let half = pack(half.iter().map(|name| (name.as_str(), PackEntry::Directory))).unwrap();
    let half = Mount::Tree(half.into());
    assert!(mounted(limits(0, 0), vec![("/a", half.clone())]).is_ok());
    assert_eq!(
        mounted(limits(0, 0), vec![("/a", half.clone()), ("/b", half)]).unwrap_err(),
        MountError::TooMany
    );
    let inside = vec![("/tmp", tree(&[("f", PackEntry::File(b"x"))])), ("/a/b/c", file(b"y"))];
    let (mut vfs, root) = mounted(limits(0, 0), inside).unwrap();
    assert_eq!(vfs.read_file(root, "tmp/f").unwrap(), b"x");
    assert_eq!(vfs.names_in(root, "a/b").unwrap(), ["c"]);
    vfs.check();
}

#[test]
fn a_mounted_tree_lists_its_directories_sorted_and_gives_inodes_as_they_are_seen() {
    let entries: Vec<(String, Vec<u8>)> =
        (0..500).map(|n| (format!("d{}/f{n}", n % 7), vec![b'x'; n])).collect();
    let packed = pack(entries.iter().map(|(path, bytes)| (path.as_str(), PackEntry::File(bytes)))).unwrap();
    let (mut vfs, root) = mounted(limits(0, 0), vec![("/t", Mount::Tree(packed.into()))]).unwrap();
    let before = vfs.nodes.in_use();
    assert_eq!(vfs.names_in(root, "t").unwrap().len(), 7);
    assert_eq!(vfs.nodes.in_use(), before + 7);
    let mut names = vfs.names_in(root, "t/d3").unwrap();
    assert_eq!(names.len(), 71);
    let listed = names.clone();
    names.sort();
    assert_eq!(names, listed);
    assert_eq!(vfs.stat_at(root, "t/d3/f10", false).unwrap().size, 10);
    vfs.check();
}

#[test]
fn paths_never_leave_the_directory_they_start_from() {
    let (mut vfs, root) = fresh();
    vfs.create_directory(root, "tmp/inner").unwrap();
    vfs.write_file(root, "secret", b"s").unwrap();
    vfs.symlink("../../secret", root, "tmp/inner/escape").unwrap();
    let inner = vfs.open(root, "tmp/inner", OpenOptions { directory: true, ..READ }).unwrap();
    for path in ["..", "../inner", "./../../secret", "/secret", "//", "x/../..", "escape/"] {
        let error = vfs.stat_at(inner, path, true).unwrap_err();
        assert!(matches!(error, FsError::NotPermitted | FsError::NoEntry), "{path}: {error}");
    }
    let follow = OpenOptions { follow: true, ..READ };
    assert_eq!(vfs.open(inner, "escape", follow).unwrap_err(), FsError::NotPermitted);
    assert!(vfs.open(root, "tmp/inner/escape", follow).is_ok());
    assert_eq!(vfs.symlink("/secret", root, "absolute").unwrap_err(), FsError::NotPermitted);
    assert_eq!(vfs.stat_at(root, "..", true).unwrap_err(), FsError::NotPermitted);
}

#[test]
fn names_and_paths_have_a_longest_length() {
    let (mut vfs, root) = fresh();
    let name = "n".repeat(255);
    vfs.create_directory(root, &name).unwrap();
    assert_eq!(vfs.create_directory(root, &"n".repeat(256)).unwrap_err(), FsError::NameTooLong);
    assert_eq!(vfs.stat_at(root, &"a/".repeat(2_049), true).unwrap_err(), FsError::NameTooLong);
    assert_eq!(vfs.stat_at(root, "", true).unwrap_err(), FsError::NoEntry);
    assert_eq!(vfs.stat_at(root, "a\0b", true).unwrap_err(), FsError::Invalid);
    // From descriptor to descriptor a guest can go deeper than one path says, but not beyond the bound.
    let mut at = vfs.open(root, &name, READ).unwrap();
    for _ in 1..16 {
        vfs.create_directory(at, &name).unwrap();
        at = vfs.open(at, &name, READ).unwrap();
    }
    assert_eq!(vfs.create_directory(at, "x").unwrap_err(), FsError::NameTooLong);
    // Moving the top to a longer name would make the deepest path too long.
    vfs.create_directory(root, "tmp/d").unwrap();
    assert_eq!(vfs.rename(root, &name, root, "tmp/d/moved").map(|()| 0), Ok(0));
    vfs.check();
    vfs.rename(root, "tmp/d/moved", root, &name).unwrap();
    assert_eq!(vfs.rename(root, &name, root, &format!("tmp/{name}")).unwrap_err(), FsError::NameTooLong);
    vfs.check();
}

#[test]
fn links_are_followed_forty_times() {
    let (mut vfs, root) = fresh();
    vfs.write_file(root, "l0", b"end").unwrap();
    for n in 0..SYMLINKS_MAX + 1 {
        vfs.symlink(&format!("l{n}"), root, &format!("l{}", n + 1)).unwrap();
    }
    let follow = OpenOptions { follow: true, ..READ };
    assert!(vfs.open(root, &format!("l{SYMLINKS_MAX}"), follow).is_ok());
    assert_eq!(vfs.open(root, &format!("l{}", SYMLINKS_MAX + 1), follow).unwrap_err(), FsError::Loop);
    vfs.symlink("self/x", root, "self").unwrap();
    assert_eq!(vfs.stat_at(root, "self", true).unwrap_err(), FsError::Loop);
    assert_eq!(vfs.read_link(root, "self").unwrap(), "self/x");
    assert_eq!(vfs.read_link(root, "l0").unwrap_err(), FsError::Invalid);
}

#[test]
fn a_file_is_made_through_a_dangling_link_only_when_links_are_followed() {
    let (mut vfs, root) = fresh();
    vfs.symlink("target", root, "link").unwrap();
    assert_eq!(vfs.open(root, "link", CREATE).unwrap_err(), FsError::Loop);
    let follow = OpenOptions { follow: true, ..CREATE };
    assert_eq!(
        vfs.open(root, "link", OpenOptions { exclusive: true, ..follow }).unwrap_err(),
        FsError::Exists
    );
    vfs.open(root, "link", follow).unwrap();
    assert_eq!(vfs.stat_at(root, "target", false).unwrap().file_type, FileType::File);
}

#[test]
fn slashes_at_the_end_mean_a_directory() {
    let (mut vfs, root) = fresh();
    vfs.write_file(root, "file", b"").unwrap();
    vfs.symlink("tmp", root, "link").unwrap();
    assert_eq!(vfs.stat_at(root, "file/", false).unwrap_err(), FsError::NotDirectory);
    assert_eq!(vfs.stat_at(root, "link/", false).unwrap().file_type, FileType::Directory);
    assert_eq!(vfs.unlink(root, "link/").unwrap_err(), FsError::NotDirectory);
    assert_eq!(vfs.open(root, "new/", CREATE).unwrap_err(), FsError::IsDirectory);
    assert_eq!(vfs.rename(root, "file", root, "new/").unwrap_err(), FsError::NotDirectory);
    assert_eq!(vfs.symlink("x", root, "new/").unwrap_err(), FsError::NoEntry);
    assert_eq!(vfs.link(root, "file", false, root, "new/").unwrap_err(), FsError::NoEntry);
    vfs.create_directory(root, "new///").unwrap();
    assert_eq!(vfs.create_directory(root, "new/").unwrap_err(), FsError::Exists);
    vfs.remove_directory(root, "new/").unwrap();
}

#[test]
fn dots_name_no_entry_that_could_be_changed() {
    let (mut vfs, root) = fresh();
    assert_eq!(vfs.remove_directory(root, ".").unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.remove_directory(root, "tmp/..").unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.unlink(root, "tmp/.").unwrap_err(), FsError::IsDirectory);
    assert_eq!(vfs.create_directory(root, "tmp/..").unwrap_err(), FsError::Exists);
    assert_eq!(vfs.rename(root, "tmp/.", root, "x").unwrap_err(), FsError::Busy);
    assert_eq!(vfs.rename(root, "tmp", root, "out/.").unwrap_err(), FsError::Busy);
}

#[test]
fn a_directory_cannot_be_moved_into_itself() {
    let (mut vfs, root) = fresh();
    vfs.create_directory(root, "a").unwrap();
    vfs.create_directory(root, "a/b").unwrap();
    assert_eq!(vfs.rename(root, "a", root, "a/b/c").unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.rename(root, "a", root, "a/b").unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.rename(root, "a/b", root, "a").unwrap_err(), FsError::NotEmpty);
    assert_eq!(vfs.rename(root, "a", root, "a"), Ok(()));
    vfs.check();
}

#[test]
fn a_removed_directory_stays_open_and_takes_nothing() {
    let (mut vfs, root) = fresh();
    vfs.create_directory(root, "d").unwrap();
    let open = vfs.open(root, "d", READ).unwrap();
    vfs.remove_directory(root, "d").unwrap();
    assert_eq!(vfs.open(open, "f", CREATE).unwrap_err(), FsError::NoEntry);
    assert_eq!(vfs.create_directory(open, "e").unwrap_err(), FsError::NoEntry);
    let used = vfs.nodes.in_use();
    vfs.close(open);
    vfs.close(open);
    assert_eq!(vfs.nodes.in_use(), used - 1);
    assert_eq!(vfs.stat(open).unwrap_err(), FsError::BadDescriptor);
    vfs.check();
}

#[test]
fn an_unlinked_file_lives_and_is_charged_until_it_is_closed() {
    let (mut vfs, root) = fresh();
    let open = vfs.open(root, "f", CREATE).unwrap();
    vfs.write(open, &[1; 1_000]).unwrap();
    vfs.unlink(root, "f").unwrap();
    assert_eq!(vfs.stat(open).unwrap().links, 0);
    assert_eq!(vfs.write_file(root, "g", &[2; 600]).unwrap_err(), FsError::NoSpace);
    vfs.close(open);
    vfs.unlink(root, "g").unwrap();
    vfs.write_file(root, "g", &[2; 600]).unwrap();
    vfs.check();
}

#[test]
fn bytes_just_fit_and_just_do_not() {
    let (mut vfs, root) = fresh();
    let open = vfs.open(root, "f", CREATE).unwrap();
    assert_eq!(vfs.write(open, &[1; 1_001]), Ok(1_000));
    assert_eq!(vfs.write(open, &[1]).unwrap_err(), FsError::NoSpace);
    assert_eq!(vfs.set_size(open, 1_001).unwrap_err(), FsError::NoSpace);
    assert_eq!(vfs.allocate(open, 0, 1_001).unwrap_err(), FsError::NoSpace);
    assert_eq!(vfs.symlink("t", root, "l").unwrap_err(), FsError::NoSpace);
    vfs.set_size(open, 10).unwrap();
    assert_eq!(vfs.write_at(open, 995, &[2; 10]), Ok(5));
    assert_eq!(vfs.bytes_left(), 0);
    vfs.set_size(open, 0).unwrap();
    assert_eq!(vfs.bytes_left(), 1_000);
    vfs.check();
}

#[test]
fn each_further_name_of_a_file_is_charged_as_a_file() {
    let (mut vfs, root) = mounted(limits(100, 3), vec![]).unwrap();
    vfs.write_file(root, "out/a", &[1; 40]).unwrap();
    vfs.link(root, "out/a", false, root, "out/b").unwrap();
    assert_eq!(vfs.link(root, "out/a", false, root, "out/c").unwrap_err(), FsError::NoSpace);
    let open = vfs.open(root, "out/a", CREATE).unwrap();
    assert_eq!(vfs.append(open, &[2; 40]), Ok(10), "each byte costs two");
    assert_eq!(vfs.bytes_left(), 0);
    vfs.unlink(root, "out/b").unwrap();
    assert_eq!(vfs.bytes_left(), 50);
    vfs.link(root, "out/a", false, root, "out/b").unwrap();
    vfs.create_directory(root, "d").unwrap();
    assert_eq!(vfs.create_directory(root, "e").unwrap_err(), FsError::NoSpace);
    vfs.close(open);
    vfs.check();
    let outputs = vfs.into_outputs().unwrap();
    assert_eq!(outputs.len(), 2);
    assert_eq!(outputs[0].1.as_ptr(), outputs[1].1.as_ptr());
}

#[test]
fn offsets_at_the_end_of_the_numbers_are_refused() {
    let (mut vfs, root) = fresh();
    let open = vfs.open(root, "f", CREATE).unwrap();
    assert_eq!(vfs.write_at(open, u64::MAX, b"x").unwrap_err(), FsError::TooLarge);
    assert_eq!(vfs.write_at(open, i64::MAX as u64, b"x").unwrap_err(), FsError::TooLarge);
    assert_eq!(vfs.write_at(open, 1 << 40, b"x").unwrap_err(), FsError::NoSpace);
    assert_eq!(vfs.read_at(open, u64::MAX, &mut [0; 4]), Ok(0));
    assert_eq!(vfs.set_size(open, u64::MAX).unwrap_err(), FsError::TooLarge);
    assert_eq!(vfs.allocate(open, u64::MAX, 1).unwrap_err(), FsError::TooLarge);
    assert_eq!(vfs.allocate(open, 0, 0).unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.seek(open, SeekFrom::Start(-1)).unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.seek(open, SeekFrom::Start(i64::MAX)), Ok(i64::MAX as u64));
    assert_eq!(vfs.seek(open, SeekFrom::Current(1)).unwrap_err(), FsError::Invalid);
    assert_eq!(vfs.write(open, b"x").unwrap_err(), FsError::TooLarge);
    assert_eq!(vfs.remaining(open), Ok(0));
}

#[test]
fn memory_of_a_file_that_shrinks_is_given_back() {
    let (mut vfs, root) = mounted(limits(1 << 20, 10), vec![]).unwrap();
    let open = vfs.open(root, "f", CREATE).unwrap();
    vfs.set_size(open, 1 << 20).unwrap();
    vfs.set_size(open, 1).unwrap();
    let id = vfs.base(open).unwrap();
    let Body::File(Content::Scratch(contents)) = &vfs.nodes[id].body else { panic!("a file") };
    assert!(contents.capacity() < 1_024);
}

#[test]
fn a_listing_goes_on_where_it_stopped_although_everything_before_was_removed() {
    let (mut vfs, root) = fresh();
    vfs.create_directory(root, "d").unwrap();
    for n in 0..20 {
        vfs.write_file(root, &format!("d/{n:02}"), b"").unwrap();
    }
    let open = vfs.open(root, "d", READ).unwrap();
    let mut cookie = 2;
    let mut removed = Vec::new();
    loop {
        let mut piece = Vec::new();
        vfs.list(open, cookie, |entry| {
            if piece.len() == 3 {
                return ControlFlow::Break(());
            }
            piece.push((entry.cookie, entry.name.to_owned()));
            ControlFlow::Continue(())
        })
        .unwrap();
        let Some((last, _)) = piece.last() else { break };
        cookie = *last;
        for (_, name) in piece {
            vfs.unlink(open, &name).unwrap();
            removed.push(name);
        }
    }
    assert_eq!(removed.len(), 20);
    assert_eq!(vfs.list(open, 12_345, |_| ControlFlow::Continue(())).unwrap_err(), FsError::Invalid);
    vfs.remove_directory(root, "d").unwrap();
}

#[test]
fn a_deep_tree_is_walked_and_dropped_without_recursion() {
    let (mut vfs, root) = mounted(limits(1_000, 10_000), vec![]).unwrap();
    let mut at = vfs.open(root, "out", READ).unwrap();
    let mut depth = 0;
    while vfs.create_directory(at, "d").is_ok() {
        at = vfs.open(at, "d", READ).unwrap();
        depth += 1;
    }
    assert_eq!(depth, (PATH_BYTES_MAX - 4) / 2);
    let top = vfs.open(root, "out", READ).unwrap();
    assert_eq!(vfs.rename(top, "d", top, "long").unwrap_err(), FsError::NameTooLong);
    assert!(vfs.into_outputs().unwrap().is_empty());
}

#[test]
fn outputs_are_the_files_that_the_guest_wrote_below_out() {
    let (mut vfs, root) = mounted(limits(1_000, 100), vec![("/out/input", file(b"in"))]).unwrap();
    vfs.create_directory(root, "out/a").unwrap();
    vfs.write_file(root, "out/a/x", b"1").unwrap();
    vfs.write_file(root, "out/a-b", b"2").unwrap();
    vfs.write_file(root, "tmp/no", b"3").unwrap();
    vfs.symlink("a-b", root, "out/link").unwrap();
    let outputs: Vec<_> =
        vfs.into_outputs().unwrap().into_iter().map(|(path, bytes)| (path.to_string(), bytes)).collect();
    assert_eq!(outputs, [("/out/a-b".to_owned(), "2".into()), ("/out/a/x".to_owned(), Bytes::from("1"))]);
}

#[test]
fn a_file_called_out_is_no_output() {
    let (mut vfs, root) = fresh();
    vfs.remove_directory(root, "out").unwrap();
    vfs.write_file(root, "out", b"x").unwrap();
    assert!(vfs.into_outputs().unwrap().is_empty());
}

#[test]
fn output_paths_are_bounded_together_as_json_writes_them() {
    // Each control character takes six bytes there, so that this path takes about 22,000.
    let part = "\u{1}".repeat(255);
    let directories = vec![part.as_str(); 14].join("/");
    let with = |files: usize| {
        let (mut vfs, root) = mounted(limits(0, 65_536), vec![]).unwrap();
        for depth in 1..=14 {
            vfs.create_directory(root, &format!("out/{}", vec![part.as_str(); depth].join("/"))).unwrap();
        }
        for number in 0..files {
            vfs.write_file(root, &format!("out/{directories}/{number:05}"), b"").unwrap();
        }
        vfs.into_outputs()
    };
    let each = "/out/".len() + 14 * (6 * 255 + 1) + 5;
    let fit = OUTPUT_PATHS_BYTES_MAX / each;
    assert_eq!(with(fit).unwrap().len(), fit);
    assert!(with(fit + 1).is_none());
}
