//! Random operations, held against a naive model of a file system.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A file system as a map from paths to what is there; files by number, so that names can share one.
#[derive(Default, Clone)]
struct Model {
    entries: BTreeMap<Vec<String>, Option<usize>>,
    contents: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Operation {
    MakeDirectory(String),
    Write(String, Vec<u8>),
    Append(String, Vec<u8>),
    Unlink(String),
    RemoveDirectory(String),
    Rename(String, String),
    Link(String, String),
}

impl Model {
    fn key(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    /// Everything on the way is there and a directory.
    fn parents(&self, key: &[String]) -> Result<(), FsError> {
        for depth in 1..key.len() {
            match self.entries.get(&key[..depth]) {
                Some(None) => {}
                Some(Some(_)) => return Err(FsError::NotDirectory),
                None => return Err(FsError::NoEntry),
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Result<Option<usize>, FsError> {
        let key = Self::key(path);
        self.parents(&key)?;
        self.entries.get(&key).copied().ok_or(FsError::NoEntry)
    }

    fn free(&self, path: &str) -> Result<(), FsError> {
        match self.find(path) {
            Ok(_) => Err(FsError::Exists),
            Err(FsError::NoEntry) => self.parents(&Self::key(path)),
            Err(error) => Err(error),
        }
    }

    fn is_empty(&self, key: &[String]) -> bool {
        !self.entries.keys().any(|other| other.len() > key.len() && other.starts_with(key))
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), FsError> {
        match operation {
            Operation::MakeDirectory(path) => {
                self.free(path)?;
                self.entries.insert(Self::key(path), None);
            }
            Operation::Write(path, bytes) | Operation::Append(path, bytes) => {
                let number = match self.find(path) {
                    Ok(None) => return Err(FsError::IsDirectory),
                    Ok(Some(number)) => number,
                    Err(_) => {
                        self.free(path)?;
                        self.contents.push(Vec::new());
                        self.entries.insert(Self::key(path), Some(self.contents.len() - 1));
                        self.contents.len() - 1
                    }
                };
                if let Operation::Write(..) = operation {
                    self.contents[number].clear();
                }
                self.contents[number].extend(bytes);
            }
            Operation::Unlink(path) => {
                self.find(path)?.ok_or(FsError::IsDirectory)?;
                self.entries.remove(&Self::key(path));
            }
            Operation::RemoveDirectory(path) => {
                if self.find(path)?.is_some() {
                    return Err(FsError::NotDirectory);
                }
                if !self.is_empty(&Self::key(path)) {
                    return Err(FsError::NotEmpty);
                }
                self.entries.remove(&Self::key(path));
            }
            Operation::Rename(from, to) => return self.rename(from, to),
            Operation::Link(from, to) => {
                let source = self.find(from)?;
                self.free(to)?;
                self.entries.insert(Self::key(to), Some(source.ok_or(FsError::NotPermitted)?));
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), FsError> {
        let moved = self.find(from)?;
        let (from, key) = (Self::key(from), Self::key(to));
        self.parents(&key)?;
        if from == key {
            return Ok(());
        }
        if moved.is_none() && key.starts_with(&from) {
            return Err(FsError::Invalid);
        }
        match (moved, self.entries.get(&key)) {
            (Some(a), Some(Some(b))) if a == *b => return Ok(()),
            (None, Some(Some(_))) => return Err(FsError::NotDirectory),
            (Some(_), Some(None)) => return Err(FsError::IsDirectory),
            (None, Some(None)) if !self.is_empty(&key) => return Err(FsError::NotEmpty),
            _ => {}
        }
        let inside: Vec<_> = self.entries.keys().filter(|other| other.starts_with(&from)).cloned().collect();
        for old in inside {
            let value = self.entries.remove(&old).flatten();
            self.entries.insert([&key[..], &old[from.len()..]].concat(), value);
        }
        Ok(())
    }
}

fn apply(vfs: &mut Vfs, root: OpenId, operation: &Operation) -> Result<(), FsError> {
    match operation {
        Operation::MakeDirectory(path) => vfs.create_directory(root, path),
        Operation::Write(path, bytes) => vfs.write_file(root, path, bytes),
        Operation::Append(path, bytes) => {
            let open = vfs.open(root, path, CREATE)?;
            assert_eq!(vfs.append(open, bytes), Ok(bytes.len()));
            vfs.close(open);
            Ok(())
        }
        Operation::Unlink(path) => vfs.unlink(root, path),
        Operation::RemoveDirectory(path) => vfs.remove_directory(root, path),
        Operation::Rename(from, to) => vfs.rename(root, from, root, to),
        Operation::Link(from, to) => vfs.link(root, from, false, root, to),
    }
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let path = || "[ab](/[ab]){0,2}";
    let bytes = || proptest::collection::vec(any::<u8>(), 0..5);
    let operation = prop_oneof![
        3 => path().prop_map(Operation::MakeDirectory),
        3 => (path(), bytes()).prop_map(|(path, bytes)| Operation::Write(path, bytes)),
        1 => (path(), bytes()).prop_map(|(path, bytes)| Operation::Append(path, bytes)),
        1 => path().prop_map(Operation::Unlink),
        1 => path().prop_map(Operation::RemoveDirectory),
        3 => (path(), path()).prop_map(|(from, to)| Operation::Rename(from, to)),
        1 => (path(), path()).prop_map(|(from, to)| Operation::Link(from, to)),
    ];
    proptest::collection::vec(operation, 1..40)
}

proptest! {
    #[test]
    fn it_does_what_a_map_of_paths_does(operations in operations()) {
        let (mut vfs, root) = mounted(limits(10_000, 1_000), vec![]).unwrap();
        let mut model = Model::default();
        for operation in &operations {
            prop_assert_eq!(apply(&mut vfs, root, operation), model.apply(operation), "{:?}", operation);
            vfs.check();
        }
        for (key, entry) in &model.entries {
            let path = key.join("/");
            match entry {
                Some(number) => prop_assert_eq!(&vfs.read_file(root, &path).unwrap(), &model.contents[*number]),
                None => {
                    let below: BTreeSet<_> = model.entries.keys()
                        .filter(|other| other.len() == key.len() + 1 && other.starts_with(key))
                        .map(|other| other[key.len()].clone())
                        .collect();
                    prop_assert_eq!(vfs.names_in(root, &path).unwrap(), below.into_iter().collect::<Vec<_>>());
                }
            }
        }
        // What nothing names any more is gone: root, tmp and out, and the model's entries.
        let files: BTreeSet<_> = model.entries.values().flatten().collect();
        let directories = model.entries.values().filter(|entry| entry.is_none()).count();
        prop_assert_eq!(vfs.nodes.in_use(), 3 + files.len() + directories);
    }
}
