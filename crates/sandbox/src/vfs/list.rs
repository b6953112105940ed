//! Listing a directory piece by piece, sorted by the bytes of the names.
//!
//! A cookie means "after this entry". It stays good when that entry is removed between two pieces, which is what programs
//! that empty a directory do: the description remembers the names at which its last piece began and ended, and
//! everything else is found by looking for the cookie among the entries that are still there.

use std::ops::{Bound, ControlFlow};

use super::node::{FileType, NodeId};
use super::open_file::OpenId;
use super::{FsError, Vfs};

/// After `.`, and after `..`.
const COOKIE_DOT: u64 = 1;
const COOKIE_DOT_DOT: u64 = 2;
/// The first cookie of a real entry.
pub(super) const COOKIE_FIRST: u64 = 3;

/// One entry of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'a> {
    /// Goes on after this entry.
    pub cookie: u64,
    /// Its inode number.
    pub inode: u64,
    /// What it is.
    pub file_type: FileType,
    /// Its name.
    pub name: &'a str,
}

impl Vfs {
    /// Shows the entries after `cookie` (0: all of them, beginning with `.` and `..`) until `visit` breaks, which says that
    /// it did not take the entry. Fails for a cookie that no entry has.
    pub fn list(
        &mut self,
        open: OpenId,
        cookie: u64,
        mut visit: impl FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let directory = self.base(open)?;
        self.unpack(directory);
        let start = self.name_of(open, directory, cookie)?;
        let dir = self.nodes[directory].dir().ok_or(FsError::NotDirectory)?;
        for (at, name, id) in [(COOKIE_DOT, ".", directory), (COOKIE_DOT_DOT, "..", dir.parent)] {
            let inode = self.nodes[id].inode;
            if cookie < at
                && visit(DirEntry { cookie: at, inode, file_type: FileType::Directory, name }).is_break()
            {
                return Ok(());
            }
        }
        let from = start.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut taken = None;
        for (name, entry) in dir.entries.range::<str, _>((from, Bound::Unbounded)) {
            let node = &self.nodes[entry.node];
            let (inode, file_type) = (node.inode, node.file_type());
            if visit(DirEntry { cookie: entry.cookie, inode, file_type, name }).is_break() {
                break;
            }
            taken = Some((entry.cookie, name));
        }
        let taken = taken.map(|(cookie, name)| (cookie, name.clone()));
        self.opens.get_mut(open)?.listed = [start.map(|name| (cookie, name)), taken];
        Ok(())
    }

    /// The name after which to go on; none for the cookies before the first name.
    fn name_of(&self, open: OpenId, directory: NodeId, cookie: u64) -> Result<Option<Box<str>>, FsError> {
        if cookie < COOKIE_FIRST {
            return Ok(None);
        }
        let remembered = self.opens.get(open)?.listed.iter().flatten().find(|(listed, _)| *listed == cookie);
        if let Some((_, name)) = remembered {
            return Ok(Some(name.clone()));
        }
        let dir = self.nodes[directory].dir().ok_or(FsError::NotDirectory)?;
        let found = dir.entries.iter().find(|(_, entry)| entry.cookie == cookie);
        found.map(|(name, _)| Some(name.clone())).ok_or(FsError::Invalid)
    }
}
