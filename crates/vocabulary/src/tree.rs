//! A packed directory: a tree of thousands of files as one blob, mapped into a guest as a whole.
//!
//! The form is canonical: equal directories (names and contents; no times, owners or modes) give equal bytes and so
//! equal digests. Numbers are little-endian.
//!
//! ```text
//! magic     8 bytes   "LSTREE1\n"
//! count     u32       entries of the table
//! table     count ×   kind u8 (0 file, 1 directory) · name length u8 (1 to 255) · name
//!                     · a file: size u64 · a directory: number of entries below it, at any depth, u32
//! contents            of the files, in the order of the table, one directly after the other, to the end of the blob
//! ```
//!
//! The table lists every directory, also an empty one, directly before what is in it; siblings are sorted by the bytes
//! of their names. The root is not listed. Names are UTF-8, without `/` and NUL, never `.` or `..`; a path from the root
//! with its leading slash has at most 4,096 bytes. There are no symbolic links and no permissions: packing a directory
//! that has links or special files is refused rather than guessed at.
//!
//! Invariant: a [`Tree`] has been checked entirely, so nothing that reads one can fail. It does not know where it is
//! mounted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::spec::PATH_BYTES_MAX;

/// Entries of one tree, directories included; also of all trees together that one guest gets.
pub const TREE_ENTRIES_MAX: usize = 1 << 18;

const MAGIC: &[u8; 8] = b"LSTREE1\n";
const HEAD_BYTES: usize = MAGIC.len() + 4;
const KIND_FILE: u8 = 0;
const KIND_DIRECTORY: u8 = 1;

/// Why bytes are no tree, or entries cannot be packed into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// It does not begin like a tree.
    #[error("no packed directory: the magic bytes are missing")]
    Magic,
    /// It ends too early, or goes on too long.
    #[error("the packed directory does not have the length that its table says")]
    Length,
    /// More entries than [`TREE_ENTRIES_MAX`].
    #[error("more than {TREE_ENTRIES_MAX} files and directories")]
    TooMany,
    /// An entry is neither a file nor a directory.
    #[error("entry {0} of the table is neither a file nor a directory")]
    Kind(usize),
    /// A directory says that it reaches beyond the directory that holds it.
    #[error("entry {0} of the table reaches beyond its directory")]
    Nesting(usize),
    /// Siblings are not sorted, or a name comes twice.
    #[error("entry {0} of the table is out of order, or its name comes twice")]
    Order(usize),
    /// A name or path that no guest can have.
    #[error("`{0}` cannot be the path of a file in a packed directory")]
    Path(String),
}

/// Why a directory on disk cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Its names or their number do not fit a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A symbolic link, device, socket or pipe.
    #[error("{0} is neither a file nor a directory; packed directories hold nothing else")]
    Special(PathBuf),
    /// A name that is not UTF-8.
    #[error("{0} has a name that is not UTF-8")]
    Name(PathBuf),
    /// A file's size changed between listing and reading.
    #[error("{0} changed while it was packed")]
    Changed(PathBuf),
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// What was read; empty for the output.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// One entry of the table. Offsets are positions in the blob.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name_at: u32,
    name_length: u8,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    File {
        at: u64,
        size: u64,
    },
    /// The index one past the last entry below it.
    Directory {
        end: u32,
    },
}

/// A checked tree; its contents are slices of the blob, never copies.
#[derive(Clone, Debug)]
pub struct Tree {
    bytes: Bytes,
    entries: Vec<Entry>,
}

/// A directory of a [`Tree`]: the range of the table below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeDirectory {
    begin: u32,
    end: u32,
}

/// What a directory of a [`Tree`] holds under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeNode {
    /// A file's contents, shared with the blob.
    File(Bytes),
    /// A directory.
    Directory(TreeDirectory),
}

impl Tree {
    /// Checks the whole table, in one pass, and takes hold of the blob.
    pub fn parse(bytes: Bytes) -> Result<Tree, TreeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(TreeError::Magic)?;
        let (count, _) = rest.split_first_chunk().ok_or(TreeError::Length)?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > TREE_ENTRIES_MAX {
            return Err(TreeError::TooMany);
        }
        // The smallest entry has 7 bytes: a small blob cannot ask for a large table.
        if count > bytes.len() / 7 {
            return Err(TreeError::Length);
        }
        let mut parser =
            Parser { bytes: &bytes, at: HEAD_BYTES, entries: Vec::with_capacity(count), size: 0 };
        parser.table(count)?;
        let Parser { at, mut entries, size, .. } = parser;
        if (bytes.len() - at) as u64 != size {
            return Err(TreeError::Length);
        }
        for entry in &mut entries {
            if let Body::File { at: relative, .. } = &mut entry.body {
                *relative += at as u64;
            }
        }
        Ok(Tree { bytes, entries })
    }

    /// The top.
    pub fn root(&self) -> TreeDirectory {
        TreeDirectory { begin: 0, end: self.entries.len() as u32 }
    }

    /// Files and directories in it, at any depth.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is an empty directory.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is directly in `directory` (which must be of this tree), sorted by name.
    pub fn list(&self, directory: TreeDirectory) -> impl Iterator<Item = (&str, TreeNode)> {
        let mut next = directory.begin;
        std::iter::from_fn(move || {
            if next >= directory.end {
                return None;
            }
            let index = next;
            let entry = &self.entries[index as usize];
            let node = match entry.body {
                Body::File { at, size } => {
                    next = index + 1;
                    TreeNode::File(self.bytes.slice(at as usize..(at + size) as usize))
                }
                Body::Directory { end } => {
                    next = end;
                    TreeNode::Directory(TreeDirectory { begin: index + 1, end })
                }
            };
            Some((self.name(entry), node))
        })
    }

    /// Every file with its path from the root, without a leading slash, in the order of the table.
    pub fn files(&self) -> Vec<(String, Bytes)> {
        let mut files = Vec::new();
        let mut pending = vec![(String::new(), self.root())];
        while let Some((prefix, directory)) = pending.pop() {
            for (name, node) in self.list(directory) {
                let path = format!("{prefix}{name}");
                match node {
                    TreeNode::File(contents) => files.push((path, contents)),
                    TreeNode::Directory(below) => pending.push((path + "/", below)),
                }
            }
        }
        files.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
        files
    }

    fn name(&self, entry: &Entry) -> &str {
        let at = entry.name_at as usize;
        let name = &self.bytes[at..at + usize::from(entry.name_length)];
        std::str::from_utf8(name).expect("parse() has checked every name")
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    entries: Vec<Entry>,
    /// Contents so far.
    size: u64,
}

/// A directory whose entries are being read.
struct Open {
    end: usize,
    /// The name that the next sibling must be greater than.
    last: Range<usize>,
    /// Length of its path, with the leading slash.
    path_length: usize,
}

impl Parser<'_> {
    fn table(&mut self, count: usize) -> Result<(), TreeError> {
        let mut open = vec![Open { end: count, last: 0..0, path_length: 0 }];
        for index in 0..count {
            while open.last().is_some_and(|directory| directory.end == index) {
                open.pop();
            }
            let directory = open.last_mut().expect("the root ends after the last entry");
            let [kind, name_length] = self.take()?;
            let name_at = self.at;
            let name = self.at..self.skip(usize::from(name_length))?;
            let text = checked_name(&self.bytes[name.clone()])?;
            if !directory.last.is_empty() && self.bytes[directory.last.clone()] >= *text.as_bytes() {
                return Err(TreeError::Order(index));
            }
            directory.last = name;
            let path_length = directory.path_length + 1 + text.len();
            if path_length > PATH_BYTES_MAX {
                return Err(TreeError::Path(text.to_owned()));
            }
            let body = match kind {
                KIND_FILE => {
                    let size = u64::from_le_bytes(self.take()?);
                    let at = self.size;
                    self.size = at.checked_add(size).ok_or(TreeError::Length)?;
                    Body::File { at, size }
                }
                KIND_DIRECTORY => {
                    let below = u32::from_le_bytes(self.take()?) as usize;
                    let end = index + 1 + below;
                    if end > directory.end {
                        return Err(TreeError::Nesting(index));
                    }
                    open.push(Open { end, last: 0..0, path_length });
                    Body::Directory { end: end as u32 }
                }
                _ => return Err(TreeError::Kind(index)),
            };
            self.entries.push(Entry { name_at: name_at as u32, name_length, body });
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], TreeError> {
        let chunk = self.bytes[self.at..].first_chunk().ok_or(TreeError::Length)?;
        self.at += N;
        Ok(*chunk)
    }

    fn skip(&mut self, length: usize) -> Result<usize, TreeError> {
        if self.bytes.len() - self.at < length {
            return Err(TreeError::Length);
        }
        self.at += length;
        Ok(self.at)
    }
}

fn checked_name(name: &[u8]) -> Result<&str, TreeError> {
    let refuse = || TreeError::Path(String::from_utf8_lossy(name).into_owned());
    let text = std::str::from_utf8(name).map_err(|_| refuse())?;
    let plain =
        !matches!(text, "" | "." | "..") && text.len() <= 255 && !name.iter().any(|b| matches!(b, 0 | b'/'));
    if plain { Ok(text) } else { Err(refuse()) }
}

/// What is to be packed under a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackEntry<'a> {
    /// A file with these contents.
    File(&'a [u8]),
    /// A directory, needed only for one that is empty: others follow from the paths in them.
    Directory,
}

/// Packs entries given by path (relative, `/` between names) in any order.
pub fn pack<'a>(entries: impl IntoIterator<Item = (&'a str, PackEntry<'a>)>) -> Result<Vec<u8>, TreeError> {
    let mut plan = Plan::default();
    for (path, entry) in entries {
        match entry {
            PackEntry::File(contents) => plan.add_file(path, contents.len() as u64, contents)?,
            PackEntry::Directory => plan.add_directory(path)?,
        }
    }
    let mut packed = plan.table();
    for contents in plan.contents() {
        packed.extend_from_slice(contents);
    }
    Ok(packed)
}

/// Packs the directory `root` as it is on disk into `output`, file after file, and returns the blob's length.
///
/// The contents are streamed: memory holds the table only.
pub fn pack_directory(root: &Path, output: &mut impl Write) -> Result<u64, PackError> {
    let plan = scan(root)?;
    let table = plan.table();
    let write_failed = |source| PackError::Io { path: PathBuf::new(), source };
    output.write_all(&table).map_err(write_failed)?;
    let mut length = table.len() as u64;
    let mut buffer = vec![0; 64 * 1024];
    for (path, size) in plan.contents() {
        let read_failed = |source| PackError::Io { path: path.clone(), source };
        // One byte more than listed is asked for, so that a file that grew is noticed.
        let mut file = File::open(path).map_err(read_failed)?.take(size + 1);
        let mut copied = 0;
        loop {
            let read = file.read(&mut buffer).map_err(read_failed)?;
            if read == 0 {
                break;
            }
            copied += read as u64;
            if copied > *size {
                return Err(PackError::Changed(path.clone()));
            }
            output.write_all(&buffer[..read]).map_err(write_failed)?;
        }
        if copied != *size {
            return Err(PackError::Changed(path.clone()));
        }
        length += copied;
    }
    Ok(length)
}

/// Lists everything below `root`.
fn scan(root: &Path) -> Result<Plan<(PathBuf, u64)>, PackError> {
    let mut plan = Plan::default();
    let mut pending = vec![(root.to_owned(), String::new())];
    while let Some((directory, prefix)) = pending.pop() {
        let failed = |source| PackError::Io { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let name = entry.file_name().into_string().map_err(|_| PackError::Name(path.clone()))?;
            let inside = format!("{prefix}{name}");
            let metadata = entry.metadata().map_err(failed)?;
            if metadata.is_dir() {
                plan.add_directory(&inside)?;
                pending.push((path, inside + "/"));
            } else if metadata.is_file() {
                plan.add_file(&inside, metadata.len(), (path, metadata.len()))?;
            } else {
                return Err(PackError::Special(path));
            }
        }
    }
    Ok(plan)
}

/// The entries to be packed, in the table's order: paths compare name by name, which is what puts a directory directly
/// before what is in it.
struct Plan<C> {
    entries: BTreeMap<Vec<Box<str>>, Planned<C>>,
}

enum Planned<C> {
    File { size: u64, contents: C },
    Directory,
}

impl<C> Default for Plan<C> {
    fn default() -> Plan<C> {
        Plan { entries: BTreeMap::new() }
    }
}

impl<C> Plan<C> {
    fn add_directory(&mut self, path: &str) -> Result<(), TreeError> {
        let names = split(path)?;
        self.add_directories(path, &names, names.len())
    }

    fn add_file(&mut self, path: &str, size: u64, contents: C) -> Result<(), TreeError> {
        let names = split(path)?;
        self.add_directories(path, &names, names.len() - 1)?;
        if self.entries.insert(names, Planned::File { size, contents }).is_some() {
            return Err(TreeError::Path(path.to_owned()));
        }
        self.check_count()
    }

    fn add_directories(&mut self, path: &str, names: &[Box<str>], depth: usize) -> Result<(), TreeError> {
        for depth in (1..=depth).rev() {
            match self.entries.get(&names[..depth]) {
                // Where a directory is listed, those around it are too.
                Some(Planned::Directory) => break,
                Some(Planned::File { .. }) => return Err(TreeError::Path(path.to_owned())),
                None => {}
            }
            self.entries.insert(names[..depth].to_vec(), Planned::Directory);
        }
        self.check_count()
    }

    fn check_count(&self) -> Result<(), TreeError> {
        if self.entries.len() > TREE_ENTRIES_MAX { Err(TreeError::TooMany) } else { Ok(()) }
    }

    /// Head and table; the contents follow in the order of [`Plan::contents`].
    fn table(&self) -> Vec<u8> {
        let mut table = Vec::from(MAGIC);
        table.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        // Directories that are still being listed: their depth, and where their count is to be written.
        let mut open: Vec<(usize, usize, u32)> = Vec::new();
        let close = |table: &mut Vec<u8>, index: usize, (_, at, first): (usize, usize, u32)| {
            table[at..at + 4].copy_from_slice(&(index as u32 - first).to_le_bytes());
        };
        for (index, (names, planned)) in self.entries.iter().enumerate() {
            while let Some(directory) = open.pop_if(|(depth, ..)| *depth >= names.len()) {
                close(&mut table, index, directory);
            }
            let name = names.last().expect("split() gives at least one name");
            let kind = if matches!(planned, Planned::File { .. }) { KIND_FILE } else { KIND_DIRECTORY };
            table.extend_from_slice(&[kind, name.len() as u8]);
            table.extend_from_slice(name.as_bytes());
            match planned {
                Planned::File { size, .. } => table.extend_from_slice(&size.to_le_bytes()),
                Planned::Directory => {
                    open.push((names.len(), table.len(), index as u32 + 1));
                    table.extend_from_slice(&[0; 4]);
                }
            }
        }
        while let Some(directory) = open.pop() {
            close(&mut table, self.entries.len(), directory);
        }
        table
    }

    fn contents(&self) -> impl Iterator<Item = &C> {
        self.entries.values().filter_map(|planned| match planned {
            Planned::File { contents, .. } => Some(contents),
            Planned::Directory => None,
        })
    }
}

fn split(path: &str) -> Result<Vec<Box<str>>, TreeError> {
    if path.len() >= PATH_BYTES_MAX {
        return Err(TreeError::Path(path.chars().take(80).collect()));
    }
    path.split('/').map(|name| checked_name(name.as_bytes()).map(Box::from)).collect()
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
