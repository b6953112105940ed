//! The descriptor table of preview 1: small numbers, the lowest free one first, as POSIX gives them.

use super::abi::{Errno, rights};
use crate::vfs::OpenId;

/// Descriptors that a guest may have open at once.
pub const DESCRIPTORS_MAX: usize = 1_024;

/// What a descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// An open file.
    File(OpenId),
    /// An open directory.
    Directory {
        /// Its description.
        open: OpenId,
        /// It was open from the start.
        preopen: bool,
    },
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// What it stands for.
    pub target: Target,
    /// What it may be used for.
    pub base: u64,
    /// What descriptors that are opened through it may be used for.
    pub inheriting: u64,
    /// `fdflags`.
    pub flags: u16,
}

impl Descriptor {
    /// With the rights of its kind.
    pub fn new(target: Target, base: u64, inheriting: u64) -> Descriptor {
        Descriptor { target, base, inheriting, flags: 0 }
    }

    /// Its description in the file system, if it has one.
    pub fn open(&self) -> Option<OpenId> {
        match self.target {
            Target::File(open) | Target::Directory { open, .. } => Some(open),
            Target::Stdin | Target::Stdout | Target::Stderr => None,
        }
    }

    /// Refuses a use that it has no right to. To read or write what was not opened for it is `EBADF`, as in POSIX.
    pub fn check(&self, right: u64) -> Result<(), Errno> {
        if self.base & right == right {
            Ok(())
        } else if right & (rights::FD_READ | rights::FD_WRITE) != 0 {
            Err(Errno::BADF)
        } else {
            Err(Errno::NOTCAPABLE)
        }
    }
}

/// The table of one run.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Option<Descriptor>>,
    /// No slot before it is free.
    first_free: usize,
}

impl Table {
    /// The standard streams, and the root as descriptor 3.
    pub fn new(root: OpenId) -> Table {
        let standard = [
            Descriptor::new(Target::Stdin, rights::STDIN, 0),
            Descriptor::new(Target::Stdout, rights::STDOUT, 0),
            Descriptor::new(Target::Stderr, rights::STDOUT, 0),
            Descriptor::new(
                Target::Directory { open: root, preopen: true },
                rights::DIRECTORY,
                rights::INHERITING,
            ),
        ];
        Table { first_free: standard.len(), slots: standard.map(Some).into() }
    }

    /// The descriptor `fd`.
    pub fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.slots.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    /// The descriptor `fd`, to be changed.
    pub fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.slots.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// Whether one more fits.
    pub fn has_room(&self) -> bool {
        self.first_free < DESCRIPTORS_MAX
    }

    /// Puts a descriptor in the lowest free place; [`Table::has_room`] must have said that there is one.
    pub fn insert(&mut self, descriptor: Descriptor) -> u32 {
        let fd = self.first_free;
        match self.slots.get_mut(fd) {
            Some(slot) => *slot = Some(descriptor),
            None => self.slots.push(Some(descriptor)),
        }
        let free = self.slots[fd..].iter().position(Option::is_none);
        self.first_free = free.map_or(self.slots.len(), |next| fd + next);
        fd as u32
    }

    /// Takes a descriptor out.
    pub fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        let removed = self.slots.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::BADF)?;
        self.first_free = self.first_free.min(fd as usize);
        Ok(removed)
    }

    /// Moves `from` to the place of `to`, and returns what was there. Both must be open.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>, Errno> {
        self.get(to)?;
        self.get(from)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(self.slots[to as usize].replace(moved))
    }
}
