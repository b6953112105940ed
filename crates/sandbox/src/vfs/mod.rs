//! The file system of a guest: synchronous, in memory, and the same on every machine.
//!
//! It owns inodes and open-file descriptions; descriptor tables, rights and errno numbers belong to the bindings above it.
//!
//! What a guest finds: a writable root with `/tmp` and `/out`, and its inputs at the paths that its spec names, read-only
//! and shared with their blobs. Directories on the way to an input are made as writable ones.
//!
//! Invariants:
//!
//! - Nothing depends on the host: inode numbers and cookies are given in order of creation, listings are sorted by the
//!   bytes of the names, and every time is the start of the virtual clock until the guest sets another one.
//! - Everything is bounded: contents by `file_bytes` (a file with several names counts once per name, because that is how
//!   often it can be an output), entries by `file_count`, paths by 4,096 bytes, links on the way by 40. Memory held for
//!   contents is at most twice `file_bytes` and 256 bytes per file. No walk recurses.
//! - Every path in the tree is a valid [`GuestPath`]: a change that would make one too long is refused.
//! - A path never leads out of the directory that it starts from.
//! - A freed inode is in no directory and in no open-file description.

mod change;
mod list;
mod node;
mod open_file;
mod path;

pub use list::DirEntry;
pub use node::{FileType, Stat, Times};
pub use open_file::{Access, OpenId, OpenOptions, SeekFrom};
pub use path::SYMLINKS_MAX;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::Mount;
use vocabulary::spec::{GuestPath, Limits, OUTPUT_PATHS_BYTES_MAX, PATH_BYTES_MAX};
use vocabulary::tree::{TREE_ENTRIES_MAX, Tree, TreeError, TreeNode};

use node::{Body, Content, Dir, Node, NodeId, Nodes};
use open_file::Opens;

/// Length of one name in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Why the file system refuses. Each binding maps it to its own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FsError {
    #[error("no such file or directory")]
    NoEntry,
    #[error("it exists")]
    Exists,
    #[error("not a directory")]
    NotDirectory,
    #[error("is a directory")]
    IsDirectory,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("too many symbolic links")]
    Loop,
    #[error("the name or path is too long")]
    NameTooLong,
    #[error("the path leads out of its directory, or is not permitted there")]
    NotPermitted,
    #[error("invalid argument")]
    Invalid,
    #[error("the limit on files or their bytes is reached")]
    NoSpace,
    #[error("the file would be too large")]
    TooLarge,
    #[error("inputs are read-only")]
    ReadOnly,
    #[error("a link cannot lead from the inputs to the scratch")]
    CrossDevice,
    #[error("the description is not open for that")]
    BadDescriptor,
    #[error("the directory is in use")]
    Busy,
    #[error("the host has no memory for the contents")]
    HostMemory,
}

/// Why an input cannot be put where its spec wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Another input is there already, or is on the way.
    #[error("`{0}` is at or below the place of another input")]
    Taken(GuestPath),
    /// The trees have too many entries together.
    #[error("the trees have more than {TREE_ENTRIES_MAX} files and directories together")]
    TooMany,
    /// It is no tree.
    #[error("the tree for `{path}` cannot be mounted: {source}")]
    Tree {
        /// Where it was wanted.
        path: GuestPath,
        /// What is wrong with it.
        source: TreeError,
    },
}

/// Length of a text as canonical JSON writes it, at the most.
fn json_bytes(text: &str) -> usize {
    text.bytes().map(|byte| if byte < 0x20 || matches!(byte, b'"' | b'\\') { 6 } else { 1 }).sum()
}

/// The file system of one run.
#[derive(Debug)]
pub struct Vfs {
    nodes: Nodes,
    opens: Opens,
    trees: Vec<Arc<Tree>>,
    root: NodeId,
    /// What every time says until the guest sets it, in nanoseconds since the Unix epoch.
    start_ns: u64,
    next_inode: u64,
    next_cookie: u64,
    file_bytes_max: u64,
    file_count_max: u32,
    /// Bytes charged to the guest: contents once per name, and targets of links.
    bytes_used: u64,
    /// Inodes that the guest made, and further names of files.
    count_used: u32,
}

impl Vfs {
    /// Makes `/`, `/tmp`, `/out` and the mounts. Times say `start_ns`.
    pub fn new(
        limits: &Limits,
        start_ns: u64,
        mounts: impl IntoIterator<Item = (GuestPath, Mount)>,
    ) -> Result<Vfs, MountError> {
        let mut nodes = Nodes::default();
        let root = nodes.insert(Node::new(1, start_ns, Body::Dir(Dir::new(NodeId::ROOT, 0))));
        let mut vfs = Vfs {
            nodes,
            opens: Opens::default(),
            trees: Vec::new(),
            root,
            start_ns,
            next_inode: 2,
            next_cookie: list::COOKIE_FIRST,
            file_bytes_max: limits.file_bytes,
            file_count_max: limits.file_count,
            bytes_used: 0,
            count_used: 0,
        };
        for name in ["tmp", "out"] {
            vfs.add_directory(root, name);
        }
        for (path, mount) in mounts {
            vfs.mount(path, mount)?;
        }
        Ok(vfs)
    }

    /// The files under `/out` that the guest wrote, sorted by path; links and inputs are not among them. None if their
    /// paths are longer than [`OUTPUT_PATHS_BYTES_MAX`] together.
    pub fn into_outputs(mut self) -> Option<Vec<(GuestPath, Bytes)>> {
        let mut files: Vec<(String, NodeId)> = Vec::new();
        let mut paths_bytes = 0;
        let mut pending = Vec::new();
        if let Some(out) = self.nodes[self.root].dir().and_then(|root| root.get("out")) {
            pending.push(("/out".to_owned(), out));
        }
        while let Some((path, id)) = pending.pop() {
            let node = &self.nodes[id];
            if node.read_only {
                continue;
            }
            match &node.body {
                Body::Dir(dir) => {
                    pending.extend(
                        dir.entries.iter().map(|(name, entry)| (format!("{path}/{name}"), entry.node)),
                    );
                }
                Body::File(_) if path != "/out" => {
                    paths_bytes += json_bytes(&path);
                    if paths_bytes > OUTPUT_PATHS_BYTES_MAX {
                        return None;
                    }
                    files.push((path, id));
                }
                Body::File(_) | Body::Symlink(_) | Body::Free { .. } => {}
            }
        }
        files.sort();
        let output = |(path, id): (String, NodeId)| {
            let path = path.parse().expect("every path in the tree is a valid guest path");
            (path, self.nodes[id].take_contents())
        };
        Some(files.into_iter().map(output).collect())
    }

    /// Bytes that the guest may still write.
    pub fn bytes_left(&self) -> u64 {
        self.file_bytes_max - self.bytes_used
    }

    fn mount(&mut self, path: GuestPath, mount: Mount) -> Result<(), MountError> {
        let mut directory = self.root;
        let (parents, name) = path.as_str().rsplit_once('/').expect("a guest path begins with a slash");
        for parent in parents.split('/').skip(1) {
            directory = match self.child(directory, parent) {
                Some(id) if self.nodes[id].dir().is_some() && !self.nodes[id].read_only => id,
                Some(_) => return Err(MountError::Taken(path)),
                None => self.add_directory(directory, parent),
            };
        }
        let body = match mount {
            Mount::File(bytes) => Body::File(Content::Mapped(bytes)),
            Mount::Tree(bytes) => {
                let tree =
                    Tree::parse(bytes).map_err(|source| MountError::Tree { path: path.clone(), source })?;
                let root = tree.root();
                self.trees.push(Arc::new(tree));
                if self.trees.iter().map(|tree| tree.len()).sum::<usize>() > TREE_ENTRIES_MAX {
                    return Err(MountError::TooMany);
                }
                Body::Dir(Dir::packed(directory, self.trees.len() - 1, root))
            }
        };
        let is_directory = matches!(body, Body::Dir(_));
        if let Some(there) = self.child(directory, name) {
            // A tree may take the place of the scratch directories that are there before anything is in them.
            let fresh =
                self.nodes[there].dir().is_some_and(|dir| dir.entries.is_empty() && dir.packed.is_none());
            if !(fresh && is_directory) {
                return Err(MountError::Taken(path));
            }
            self.detach(directory, name);
        }
        let id = self.add(body);
        self.nodes[id].read_only = true;
        self.attach(directory, name, id);
        Ok(())
    }

    /// Makes a writable directory that is not charged to the guest.
    fn add_directory(&mut self, parent: NodeId, name: &str) -> NodeId {
        let path_length = self.nodes[parent].dir().map_or(0, |dir| dir.path_length) + 1 + name.len();
        let id = self.add(Body::Dir(Dir::new(parent, path_length)));
        self.attach(parent, name, id);
        id
    }

    /// Makes an inode that is in no directory.
    fn add(&mut self, body: Body) -> NodeId {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(Node::new(inode, self.start_ns, body))
    }

    /// Puts an inode into a directory under a name that is free there.
    fn attach(&mut self, parent: NodeId, name: &str, id: NodeId) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.nodes[id].links += 1;
        if let Body::Dir(dir) = &mut self.nodes[parent].body {
            dir.entries.insert(name.into(), node::Entry { node: id, cookie });
        }
    }

    /// Takes a name out of a directory, and frees what it named once nothing else holds it.
    fn detach(&mut self, parent: NodeId, name: &str) {
        let Body::Dir(dir) = &mut self.nodes[parent].body else { return };
        let Some(entry) = dir.entries.remove(name) else { return };
        let node = &mut self.nodes[entry.node];
        node.links -= 1;
        if node.links > 0 && node.charged {
            // One name of several: it was charged for itself.
            self.bytes_used -= node.size();
            self.count_used -= 1;
        }
        self.release(entry.node);
    }

    /// Frees an inode that has neither names nor descriptions.
    fn release(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        if node.links > 0 || node.opens > 0 || id == self.root {
            return;
        }
        if node.charged {
            self.bytes_used -= node.size();
            self.count_used -= 1;
        }
        self.nodes.remove(id);
    }

    /// What `directory` holds under `name`, for a name that is neither `.` nor `..`.
    fn child(&mut self, directory: NodeId, name: &str) -> Option<NodeId> {
        self.unpack(directory);
        self.nodes[directory].dir()?.get(name)
    }

    /// Makes the inodes of a mounted directory when it is first looked into, so that mounting a large tree costs nothing.
    fn unpack(&mut self, directory: NodeId) {
        let Body::Dir(dir) = &mut self.nodes[directory].body else { return };
        let Some((tree, range)) = dir.packed.take() else { return };
        let table = Arc::clone(&self.trees[tree]);
        let mut entries = BTreeMap::new();
        for (name, contents) in table.list(range) {
            let body = match contents {
                TreeNode::File(bytes) => Body::File(Content::Mapped(bytes)),
                TreeNode::Directory(range) => Body::Dir(Dir::packed(directory, tree, range)),
            };
            let id = self.add(body);
            let node = &mut self.nodes[id];
            (node.read_only, node.links) = (true, 1);
            entries.insert(Box::from(name), node::Entry { node: id, cookie: self.next_cookie });
            self.next_cookie += 1;
        }
        if let Body::Dir(dir) = &mut self.nodes[directory].body {
            dir.entries = entries;
        }
    }

    /// Room for one more inode or name.
    fn charge_count(&mut self) -> Result<(), FsError> {
        if self.count_used >= self.file_count_max {
            return Err(FsError::NoSpace);
        }
        self.count_used += 1;
        Ok(())
    }

    /// Room for more bytes.
    fn charge_bytes(&mut self, bytes: u64) -> Result<(), FsError> {
        let used = self.bytes_used.checked_add(bytes).ok_or(FsError::NoSpace)?;
        if used > self.file_bytes_max {
            return Err(FsError::NoSpace);
        }
        self.bytes_used = used;
        Ok(())
    }

    /// Whether a directory can take `name` without making a path that is no guest path.
    fn check_path_length(&self, directory: NodeId, name: &str) -> Result<usize, FsError> {
        let length = self.nodes[directory].dir().ok_or(FsError::NotDirectory)?.path_length + 1 + name.len();
        if length > PATH_BYTES_MAX { Err(FsError::NameTooLong) } else { Ok(length) }
    }
}

#[cfg(test)]
mod tests;
