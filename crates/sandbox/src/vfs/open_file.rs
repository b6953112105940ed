//! Open-file descriptions: what is open, for what, and at which position.

use vocabulary::spec::INTEGER_MAX;

use super::node::{Body, Content, NodeId, Stat};
use super::path::Last;
use super::{FsError, Vfs};

/// The largest position and size: what a signed 64-bit offset can express.
const OFFSET_MAX: u64 = i64::MAX as u64;
const _: () = assert!(INTEGER_MAX < OFFSET_MAX);

/// Names an open-file description until it is closed. The binding that opened it closes it, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenId(u32);

/// What a file was opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Its bytes may be read.
    pub read: bool,
    /// Its bytes may be written, and its size set.
    pub write: bool,
}

/// How to open a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// For what.
    pub access: Access,
    /// Follow a link in the last place.
    pub follow: bool,
    /// Make a file where nothing is.
    pub create: bool,
    /// Together with `create`: refuse what is there.
    pub exclusive: bool,
    /// Take only a directory.
    pub directory: bool,
    /// Empty the file.
    pub truncate: bool,
}

/// From where to seek.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekFrom {
    /// The beginning.
    Start(i64),
    /// The current position.
    Current(i64),
    /// The end.
    End(i64),
}

#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) node: NodeId,
    access: Access,
    position: u64,
    /// Where the last piece of a listing began and ended: cookie and name.
    pub(super) listed: [Option<(u64, Box<str>)>; 2],
}

#[derive(Debug, Default)]
pub(super) struct Opens {
    slots: Vec<Option<OpenFile>>,
    free: Vec<u32>,
}

impl Opens {
    fn insert(&mut self, open: OpenFile) -> OpenId {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(open);
            return OpenId(slot);
        }
        self.slots.push(Some(open));
        OpenId((self.slots.len() - 1) as u32)
    }

    pub(super) fn get(&self, id: OpenId) -> Result<&OpenFile, FsError> {
        self.slots.get(id.0 as usize).and_then(Option::as_ref).ok_or(FsError::BadDescriptor)
    }

    pub(super) fn get_mut(&mut self, id: OpenId) -> Result<&mut OpenFile, FsError> {
        self.slots.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or(FsError::BadDescriptor)
    }

    fn remove(&mut self, id: OpenId) -> Option<OpenFile> {
        let open = self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        Some(open)
    }
}

impl Vfs {
    /// Opens the root directory.
    pub fn open_root(&mut self) -> OpenId {
        self.open_node(self.root, Access::default())
    }

    /// Opens what `path` leads to from the directory `base`.
    pub fn open(&mut self, base: OpenId, path: &str, options: OpenOptions) -> Result<OpenId, FsError> {
        let base = self.base(base)?;
        if options.create && options.directory {
            return Err(FsError::Invalid);
        }
        let follow = options.follow && !(options.create && options.exclusive);
        let resolved = self.resolve(base, path, Last::follow_if(follow))?;
        let Some(id) = resolved.node else {
            if !options.create {
                return Err(FsError::NoEntry);
            }
            if resolved.slash {
                return Err(FsError::IsDirectory);
            }
            let id = self.make(resolved.parent, &resolved.name, Body::File(Content::Scratch(Vec::new())))?;
            return Ok(self.open_node(id, options.access));
        };
        if options.create && options.exclusive {
            return Err(FsError::Exists);
        }
        let changes = options.access.write || options.truncate;
        match self.nodes[id].body {
            Body::Symlink(_) => return Err(FsError::Loop),
            Body::Dir(_) if changes || options.create => return Err(FsError::IsDirectory),
            Body::Dir(_) => {}
            _ if options.directory => return Err(FsError::NotDirectory),
            _ if changes && self.nodes[id].read_only => return Err(FsError::ReadOnly),
            _ => {}
        }
        if options.truncate {
            self.resize(id, 0)?;
        }
        Ok(self.open_node(id, options.access))
    }

    /// Forgets a description. Closing one that is not open does nothing.
    pub fn close(&mut self, open: OpenId) {
        if let Some(open) = self.opens.remove(open) {
            self.nodes[open.node].opens -= 1;
            self.release(open.node);
        }
    }

    /// What is open.
    pub fn stat(&self, open: OpenId) -> Result<Stat, FsError> {
        Ok(self.nodes[self.opens.get(open)?.node].stat())
    }

    /// Sets the times that are given, in nanoseconds since the Unix epoch.
    pub fn set_times(
        &mut self,
        open: OpenId,
        accessed: Option<u64>,
        modified: Option<u64>,
    ) -> Result<(), FsError> {
        let node = self.opens.get(open)?.node;
        self.change_times(node, accessed, modified)
    }

    /// Reads at `offset` into `buffer`; fewer bytes than it has only at the end of the file.
    pub fn read_at(&self, open: OpenId, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let open = self.opens.get(open)?;
        if !open.access.read {
            return Err(FsError::BadDescriptor);
        }
        let contents = self.contents(open.node)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| contents.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// Reads at the position and moves it.
    pub fn read(&mut self, open: OpenId, buffer: &mut [u8]) -> Result<usize, FsError> {
        let length = self.read_at(open, self.opens.get(open)?.position, buffer)?;
        self.opens.get_mut(open)?.position += length as u64;
        Ok(length)
    }

    /// Writes at `offset`; what lies between the end and `offset` becomes zeros. Writes fewer bytes where the limit does
    /// not leave room for all, and fails where it leaves room for none.
    pub fn write_at(&mut self, open: OpenId, offset: u64, bytes: &[u8]) -> Result<usize, FsError> {
        let open = self.opens.get(open)?;
        if !open.access.write {
            return Err(FsError::BadDescriptor);
        }
        let id = open.node;
        if bytes.is_empty() {
            return Ok(0);
        }
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| *end <= OFFSET_MAX)
            .ok_or(FsError::TooLarge)?;
        let size = self.nodes[id].size();
        let end = if end > size {
            let reach = end.min(size + self.room(id));
            if reach <= offset {
                return Err(FsError::NoSpace);
            }
            if offset > size {
                self.resize(id, offset)?;
            }
            self.reserve(id, reach)?;
            reach
        } else {
            end
        };
        let (start, length) = (offset as usize, (end - offset) as usize);
        let names = self.names(id);
        let Body::File(Content::Scratch(contents)) = &mut self.nodes[id].body else {
            return Err(FsError::BadDescriptor);
        };
        let over = length.min(contents.len() - start);
        contents[start..start + over].copy_from_slice(&bytes[..over]);
        contents.extend_from_slice(&bytes[over..length]);
        self.bytes_used += (length - over) as u64 * names;
        Ok(length)
    }

    /// Writes at the end and moves the position behind it.
    pub fn append(&mut self, open: OpenId, bytes: &[u8]) -> Result<usize, FsError> {
        let end = self.nodes[self.opens.get(open)?.node].size();
        let length = self.write_at(open, end, bytes)?;
        self.opens.get_mut(open)?.position = end + length as u64;
        Ok(length)
    }

    /// Writes at the position and moves it.
    pub fn write(&mut self, open: OpenId, bytes: &[u8]) -> Result<usize, FsError> {
        let length = self.write_at(open, self.opens.get(open)?.position, bytes)?;
        self.opens.get_mut(open)?.position += length as u64;
        Ok(length)
    }

    /// Moves the position, which may lie behind the end, and returns it.
    pub fn seek(&mut self, open: OpenId, to: SeekFrom) -> Result<u64, FsError> {
        let file = self.opens.get(open)?;
        let size = self.contents(file.node)?.len() as u64;
        let (from, offset) = match to {
            SeekFrom::Start(offset) => (0, offset),
            SeekFrom::Current(offset) => (file.position, offset),
            SeekFrom::End(offset) => (size, offset),
        };
        let position = from.checked_add_signed(offset).filter(|position| *position <= OFFSET_MAX);
        let position = position.ok_or(FsError::Invalid)?;
        self.opens.get_mut(open)?.position = position;
        Ok(position)
    }

    /// Bytes between the position and the end.
    pub fn remaining(&self, open: OpenId) -> Result<u64, FsError> {
        let open = self.opens.get(open)?;
        Ok((self.contents(open.node)?.len() as u64).saturating_sub(open.position))
    }

    /// Cuts the file, or extends it with zeros.
    pub fn set_size(&mut self, open: OpenId, size: u64) -> Result<(), FsError> {
        let open = self.opens.get(open)?;
        if !open.access.write {
            return Err(FsError::BadDescriptor);
        }
        self.resize(open.node, size)
    }

    /// Extends the file with zeros so that it has at least `offset + length` bytes.
    pub fn allocate(&mut self, open: OpenId, offset: u64, length: u64) -> Result<(), FsError> {
        if length == 0 {
            return Err(FsError::Invalid);
        }
        let end = offset.checked_add(length).ok_or(FsError::TooLarge)?;
        let size = self.stat(open)?.size;
        self.set_size(open, size.max(end))
    }

    /// The inode of an open directory, from which paths start.
    pub(super) fn base(&self, open: OpenId) -> Result<NodeId, FsError> {
        Ok(self.opens.get(open)?.node)
    }

    fn open_node(&mut self, node: NodeId, access: Access) -> OpenId {
        self.nodes[node].opens += 1;
        self.opens.insert(OpenFile { node, access, position: 0, listed: [None, None] })
    }

    fn contents(&self, id: NodeId) -> Result<&[u8], FsError> {
        match &self.nodes[id].body {
            Body::File(Content::Scratch(bytes)) => Ok(bytes),
            Body::File(Content::Mapped(bytes)) => Ok(bytes),
            Body::Dir(_) => Err(FsError::IsDirectory),
            Body::Symlink(_) | Body::Free { .. } => Err(FsError::BadDescriptor),
        }
    }

    /// Names that a file's bytes are charged for: an unlinked one that is still open counts once.
    fn names(&self, id: NodeId) -> u64 {
        u64::from(self.nodes[id].links.max(1))
    }

    /// Bytes by which the file can grow.
    fn room(&self, id: NodeId) -> u64 {
        (self.file_bytes_max - self.bytes_used) / self.names(id)
    }

    fn resize(&mut self, id: NodeId, size: u64) -> Result<(), FsError> {
        if size > OFFSET_MAX {
            return Err(FsError::TooLarge);
        }
        let names = self.names(id);
        let old = self.nodes[id].size();
        if size > old && size - old > self.room(id) {
            return Err(FsError::NoSpace);
        }
        self.reserve(id, size)?;
        let Body::File(Content::Scratch(contents)) = &mut self.nodes[id].body else {
            return Err(FsError::BadDescriptor);
        };
        let new = size as usize;
        let shrinks = new < contents.len();
        contents.resize(new, 0);
        if shrinks {
            contents.shrink_to_fit();
        }
        self.bytes_used = if size > old {
            self.bytes_used + (size - old) * names
        } else {
            self.bytes_used - (old - size) * names
        };
        Ok(())
    }

    /// Gets memory for `size` bytes, which the limits allow.
    fn reserve(&mut self, id: NodeId, size: u64) -> Result<(), FsError> {
        let max = self.file_bytes_max as usize;
        let Body::File(Content::Scratch(contents)) = &mut self.nodes[id].body else {
            return Err(FsError::BadDescriptor);
        };
        if size as usize > contents.capacity() {
            // Doubling keeps appending cheap; never beyond what the limit could use.
            let wanted = contents.capacity().saturating_mul(2).max(256).min(max).max(size as usize);
            contents.try_reserve_exact(wanted - contents.len()).map_err(|_| FsError::HostMemory)?;
        }
        Ok(())
    }
}
