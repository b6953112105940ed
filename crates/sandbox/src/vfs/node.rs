//! Inodes, and the slab that they live in. An inode's slot may be used again, its inode number never is.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use bytes::Bytes;

use vocabulary::tree::TreeDirectory;

/// A place in the slab; valid while something holds the inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The first inode ever made.
    pub(super) const ROOT: NodeId = NodeId(0);
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// Times in nanoseconds since the Unix epoch. Only a guest that sets them changes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Last access.
    pub accessed_ns: u64,
    /// Last change of the contents.
    pub modified_ns: u64,
    /// Last change of the inode; always the start.
    pub changed_ns: u64,
}

/// What a guest can learn about an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its number, unique for the whole run.
    pub inode: u64,
    /// What it is.
    pub file_type: FileType,
    /// Its names; always 1 for a directory.
    pub links: u64,
    /// Bytes of a file or of a link's target, 0 for a directory.
    pub size: u64,
    /// Its times.
    pub times: Times,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) inode: u64,
    /// Directory entries that name it.
    pub(super) links: u32,
    /// Open-file descriptions of it.
    pub(super) opens: u32,
    pub(super) times: Times,
    /// It belongs to an input.
    pub(super) read_only: bool,
    /// The guest made it, so it counts against the limits.
    pub(super) charged: bool,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Dir(Dir),
    File(Content),
    Symlink(Box<str>),
    /// A free slot of the slab, and the next one.
    Free {
        next: Option<u32>,
    },
}

#[derive(Debug)]
pub(super) enum Content {
    /// Written by the guest.
    Scratch(Vec<u8>),
    /// An input, shared with its blob.
    Mapped(Bytes),
}

#[derive(Debug)]
pub(super) struct Dir {
    pub(super) entries: BTreeMap<Box<str>, Entry>,
    /// The directory it is in; the root is in itself.
    pub(super) parent: NodeId,
    /// Bytes of its path, 0 for the root. Kept for writable directories only.
    pub(super) path_length: usize,
    /// Where its entries are, while nobody has looked into it: a tree's number and the part of it.
    pub(super) packed: Option<(usize, TreeDirectory)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) node: NodeId,
    /// Identifies the entry to a guest that lists the directory piece by piece.
    pub(super) cookie: u64,
}

impl Dir {
    pub(super) fn new(parent: NodeId, path_length: usize) -> Dir {
        Dir { entries: BTreeMap::new(), parent, path_length, packed: None }
    }

    pub(super) fn packed(parent: NodeId, tree: usize, range: TreeDirectory) -> Dir {
        Dir { entries: BTreeMap::new(), parent, path_length: 0, packed: Some((tree, range)) }
    }

    pub(super) fn get(&self, name: &str) -> Option<NodeId> {
        self.entries.get(name).map(|entry| entry.node)
    }
}

impl Node {
    pub(super) fn new(inode: u64, now_ns: u64, body: Body) -> Node {
        let times = Times { accessed_ns: now_ns, modified_ns: now_ns, changed_ns: now_ns };
        Node { inode, links: 0, opens: 0, times, read_only: false, charged: false, body }
    }

    pub(super) fn dir(&self) -> Option<&Dir> {
        match &self.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    /// Bytes that it holds, as far as they are charged to the guest or shown in its stat.
    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::File(Content::Scratch(bytes)) => bytes.len() as u64,
            Body::File(Content::Mapped(bytes)) => bytes.len() as u64,
            Body::Symlink(target) => target.len() as u64,
            Body::Dir(_) | Body::Free { .. } => 0,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        match &self.body {
            Body::Dir(_) => FileType::Directory,
            Body::Symlink(_) => FileType::Symlink,
            Body::File(_) | Body::Free { .. } => FileType::File,
        }
    }

    pub(super) fn stat(&self) -> Stat {
        let file_type = self.file_type();
        let links = if file_type == FileType::Directory { 1 } else { u64::from(self.links) };
        Stat { inode: self.inode, file_type, links, size: self.size(), times: self.times }
    }

    /// The bytes of a file, shared from now on, so that each of its names can give them out.
    pub(super) fn take_contents(&mut self) -> Bytes {
        let Body::File(content) = &mut self.body else { return Bytes::new() };
        let bytes = match content {
            Content::Scratch(bytes) => Bytes::from(std::mem::take(bytes)),
            Content::Mapped(bytes) => bytes.clone(),
        };
        *content = Content::Mapped(bytes.clone());
        bytes
    }
}

/// The slab of inodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    slots: Vec<Node>,
    free: Option<u32>,
}

impl Nodes {
    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        if let Some(slot) = self.free {
            let place = &mut self.slots[slot as usize];
            if let Body::Free { next } = place.body {
                self.free = next;
            }
            *place = node;
            return NodeId(slot);
        }
        self.slots.push(node);
        NodeId((self.slots.len() - 1) as u32)
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self[id].body = Body::Free { next: self.free };
        self.free = Some(id.0);
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.slots.iter().filter(|node| !matches!(node.body, Body::Free { .. })).count()
    }
}

impl Index<NodeId> for Nodes {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.slots[id.0 as usize]
    }
}

impl IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.slots[id.0 as usize]
    }
}
