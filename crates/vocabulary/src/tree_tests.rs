//! Tests of the packed-directory form.

use proptest::prelude::*;

use super::*;

fn sample() -> Vec<u8> {
    pack([
        ("src/main.rs", PackEntry::File(b"fn main() {}")),
        ("src-old", PackEntry::File(b"old")),
        ("empty", PackEntry::Directory),
        ("src/deep/er/x", PackEntry::File(b"")),
    ])
    .unwrap()
}

#[test]
fn a_packed_directory_reads_back_and_siblings_are_sorted_by_name() {
    let tree = Tree::parse(sample().into()).unwrap();
    let top: Vec<_> = tree.list(tree.root()).map(|(name, _)| name.to_owned()).collect();
    assert_eq!(top, ["empty", "src", "src-old"]);
    let files: Vec<_> = tree.files();
    let expected = [("src/deep/er/x", &b""[..]), ("src/main.rs", b"fn main() {}"), ("src-old", b"old")];
    assert_eq!(files.len(), expected.len());
    for ((path, contents), (want_path, want)) in files.iter().zip(expected) {
        assert_eq!((path.as_str(), &contents[..]), (want_path, want));
    }
    assert_eq!(tree.len(), 7);
}

#[test]
fn the_form_is_pinned_because_digests_depend_on_it() {
    let packed = pack([("d/f", PackEntry::File(b"hi"))]).unwrap();
    assert_eq!(packed, b"LSTREE1\n\x02\0\0\0\x01\x01d\x01\0\0\0\0\x01f\x02\0\0\0\0\0\0\0hi");
}

#[test]
fn the_order_of_packing_does_not_matter() {
    let mut entries = vec![
        ("b", PackEntry::File(b"1")),
        ("a/b/c", PackEntry::File(b"2")),
        ("a/b", PackEntry::Directory),
        ("a-b", PackEntry::File(b"3")),
    ];
    let packed = pack(entries.clone()).unwrap();
    entries.reverse();
    assert_eq!(pack(entries).unwrap(), packed);
}

#[test]
fn names_that_no_guest_can_have_are_refused() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(2_048) + "f";
    for wrong in ["", "/a", "a/", "a//b", ".", "a/..", "a\0", &long, &deep] {
        assert!(pack([(wrong, PackEntry::File(b""))]).is_err(), "{wrong:?}");
    }
    for (a, b) in [("a", "a"), ("a", "a/b"), ("a/b", "a")] {
        let twice = [(a, PackEntry::File(b"")), (b, PackEntry::File(b""))];
        assert!(pack(twice).is_err(), "{a} and {b}");
    }
}

#[test]
fn every_cut_and_every_extension_is_refused() {
    let packed = sample();
    for length in 0..packed.len() {
        assert!(Tree::parse(packed[..length].to_vec().into()).is_err(), "cut at {length}");
    }
    let mut longer = packed;
    longer.push(0);
    assert_eq!(Tree::parse(longer.into()).unwrap_err(), TreeError::Length);
}

#[test]
fn hostile_tables_are_refused() {
    let table = |count: u32, rest: &[u8]| {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(rest);
        Tree::parse(bytes.into())
    };
    let file = |name: &[u8], size: u64| [&[0, name.len() as u8], name, &size.to_le_bytes()].concat();
    let directory = |name: &[u8], below: u32| [&[1, name.len() as u8], name, &below.to_le_bytes()].concat();
    assert!(table(1, &file(b"a", 0)).is_ok());
    assert_eq!(table(u32::MAX, b"").unwrap_err(), TreeError::TooMany);
    assert_eq!(table(1 << 18, &[0; 64]).unwrap_err(), TreeError::Length);
    assert_eq!(table(1, &file(b"a", u64::MAX)).unwrap_err(), TreeError::Length);
    let overflow = [file(b"a", u64::MAX), file(b"b", 1)].concat();
    assert_eq!(table(2, &overflow).unwrap_err(), TreeError::Length);
    assert_eq!(table(2, &[file(b"b", 0), file(b"a", 0)].concat()).unwrap_err(), TreeError::Order(1));
    assert_eq!(table(2, &[file(b"a", 0), file(b"a", 0)].concat()).unwrap_err(), TreeError::Order(1));
    assert_eq!(table(1, &directory(b"a", 1)).unwrap_err(), TreeError::Nesting(0));
    let crossing = [directory(b"a", 1), directory(b"b", 1), file(b"c", 0)].concat();
    assert_eq!(table(3, &crossing).unwrap_err(), TreeError::Nesting(1));
    let third = [&[2, 1, b'a'], &[0; 8][..]].concat();
    assert_eq!(table(1, &third).unwrap_err(), TreeError::Kind(0));
    for name in [&b"."[..], b"..", b"a/b", b"a\0", b"", b"\xff"] {
        assert!(matches!(table(1, &file(name, 0)), Err(TreeError::Path(_))), "{name:?}");
    }
}

#[test]
fn a_chain_of_directories_deeper_than_a_path_is_refused() {
    let mut bytes = MAGIC.to_vec();
    let depth = 3_000_u32;
    bytes.extend_from_slice(&depth.to_le_bytes());
    for index in 0..depth {
        bytes.extend_from_slice(&[1, 1, b'd']);
        bytes.extend_from_slice(&(depth - index - 1).to_le_bytes());
    }
    assert!(matches!(Tree::parse(bytes.into()), Err(TreeError::Path(_))));
}

#[test]
fn a_directory_on_disk_packs_as_its_entries_do_and_links_are_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("src/deep/er")).unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    fs::write(root.path().join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(root.path().join("src-old"), "old").unwrap();
    fs::write(root.path().join("src/deep/er/x"), "").unwrap();
    let mut packed = Vec::new();
    let length = pack_directory(root.path(), &mut packed).unwrap();
    assert_eq!(length, packed.len() as u64);
    assert_eq!(packed, sample());

    std::os::unix::fs::symlink("src-old", root.path().join("link")).unwrap();
    assert!(matches!(pack_directory(root.path(), &mut Vec::new()), Err(PackError::Special(_))));
}

proptest! {
    #[test]
    fn any_set_of_files_round_trips(
        files in proptest::collection::btree_map("[a-c.-]{1,3}(/[a-c.-]{1,3}){0,3}", proptest::collection::vec(any::<u8>(), 0..20), 0..20)
    ) {
        let entries = files.iter().map(|(path, contents)| (path.as_str(), PackEntry::File(contents)));
        // Some sets name a file where another needs a directory, or use `..`: those are refused, never mispacked.
        if let Ok(packed) = pack(entries) {
            let read: BTreeMap<_, _> =
                Tree::parse(packed.into()).unwrap().files().into_iter().map(|(p, c)| (p, c.to_vec())).collect();
            prop_assert_eq!(read, files);
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_what_still_parses_is_canonical(at in 0..200_usize, value: u8) {
        let mut packed = sample();
        let at = at % packed.len();
        packed[at] = value;
        if let Ok(tree) = Tree::parse(packed.clone().into()) {
            let files = tree.files();
            prop_assert!(files.iter().all(|(path, _)| split(path).is_ok()));
        }
    }
}
