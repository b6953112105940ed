//! The functions that take a path, relative to an open directory.

use super::abi::{self, rights};
use super::fd::checked_fdflags;
use super::memory::aligned;
use super::table::{Descriptor, Target};
use super::{Answer, Call, Errno};
use crate::vfs::{Access, FileType, OpenOptions};

impl Call<'_> {
    pub(super) fn path_create_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_CREATE_DIRECTORY)?;
        let Call { wasi, memory } = self;
        Ok(wasi.vfs.create_directory(base, memory.path(path, length)?)?)
    }

    pub(super) fn path_filestat_get(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        stat: u32,
    ) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_FILESTAT_GET)?;
        let Call { wasi, memory } = self;
        let found = wasi.vfs.stat_at(base, memory.path(path, length)?, follows(lookup)?)?;
        aligned(stat, 8)?;
        Ok(memory.write(stat, &abi::filestat(Some(found)))?)
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1 has them")]
    pub(super) fn path_filestat_set_times(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_FILESTAT_SET_TIMES)?;
        let (accessed, modified) = self.wasi.times(accessed, modified, flags)?;
        let Call { wasi, memory } = self;
        let path = memory.path(path, length)?;
        Ok(wasi.vfs.set_times_at(base, path, follows(lookup)?, accessed, modified)?)
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1 has them")]
    pub(super) fn path_link(
        &mut self,
        from_fd: u32,
        lookup: u32,
        from: u32,
        from_length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Answer {
        let from_base = self.wasi.directory(from_fd, rights::PATH_LINK_SOURCE)?;
        let to_base = self.wasi.directory(to_fd, rights::PATH_LINK_TARGET)?;
        let Call { wasi, memory } = self;
        let from = memory.path(from, from_length)?;
        let to = memory.path(to, to_length)?;
        Ok(wasi.vfs.link(from_base, from, follows(lookup)?, to_base, to)?)
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1 has them")]
    pub(super) fn path_open(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        oflags: u32,
        base: u64,
        _inheriting: u64,
        fdflags: u32,
        opened: u32,
    ) -> Answer {
        let directory = self.wasi.directory(fd, rights::PATH_OPEN)?;
        let inherited = self.wasi.table.get(fd)?.inheriting;
        let flags = checked_fdflags(fdflags)?;
        let has = |flag| oflags & flag != 0;
        if oflags > (abi::OFLAGS_CREAT | abi::OFLAGS_DIRECTORY | abi::OFLAGS_EXCL | abi::OFLAGS_TRUNC) {
            return Err(Errno::INVAL.into());
        }
        if has(abi::OFLAGS_CREAT) {
            self.wasi.table.get(fd)?.check(rights::PATH_CREATE_FILE)?;
        }
        let wanted = base & inherited;
        let options = OpenOptions {
            access: Access { read: wanted & rights::FD_READ != 0, write: wanted & rights::FD_WRITE != 0 },
            follow: follows(lookup)?,
            create: has(abi::OFLAGS_CREAT),
            exclusive: has(abi::OFLAGS_EXCL),
            directory: has(abi::OFLAGS_DIRECTORY),
            truncate: has(abi::OFLAGS_TRUNC),
        };
        if !self.wasi.table.has_room() {
            return Err(Errno::MFILE.into());
        }
        let Call { wasi, memory } = self;
        let open = wasi.vfs.open(directory, memory.path(path, length)?, options)?;
        let descriptor = if wasi.vfs.stat(open)?.file_type == FileType::Directory {
            Descriptor::new(
                Target::Directory { open, preopen: false },
                rights::DIRECTORY & inherited,
                rights::INHERITING & inherited,
            )
        } else {
            let read = if options.access.read { rights::FD_READ } else { 0 };
            let write = if options.access.write { rights::FILE_WRITE } else { 0 };
            Descriptor::new(Target::File(open), (rights::FILE | read | write) & inherited, 0)
        };
        let fd = wasi.table.insert(Descriptor { flags, ..descriptor });
        Ok(memory.write_u32(opened, fd)?)
    }

    pub(super) fn path_readlink(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
        buffer: u32,
        buffer_length: u32,
        used: u32,
    ) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_READLINK)?;
        let Call { wasi, memory } = self;
        let target = wasi.vfs.read_link(base, memory.path(path, length)?)?.as_bytes();
        let shown = &target[..target.len().min(buffer_length as usize)];
        memory.write(buffer, shown)?;
        Ok(memory.write_u32(used, shown.len() as u32)?)
    }

    pub(super) fn path_remove_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_REMOVE_DIRECTORY)?;
        let Call { wasi, memory } = self;
        Ok(wasi.vfs.remove_directory(base, memory.path(path, length)?)?)
    }

    pub(super) fn path_rename(
        &mut self,
        from_fd: u32,
        from: u32,
        from_length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Answer {
        let from_base = self.wasi.directory(from_fd, rights::PATH_RENAME_SOURCE)?;
        let to_base = self.wasi.directory(to_fd, rights::PATH_RENAME_TARGET)?;
        let Call { wasi, memory } = self;
        let from = memory.path(from, from_length)?;
        let to = memory.path(to, to_length)?;
        Ok(wasi.vfs.rename(from_base, from, to_base, to)?)
    }

    pub(super) fn path_symlink(
        &mut self,
        target: u32,
        target_length: u32,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_SYMLINK)?;
        let Call { wasi, memory } = self;
        let target = memory.path(target, target_length)?;
        Ok(wasi.vfs.symlink(target, base, memory.path(path, length)?)?)
    }

    pub(super) fn path_unlink_file(&mut self, fd: u32, path: u32, length: u32) -> Answer {
        let base = self.wasi.directory(fd, rights::PATH_UNLINK_FILE)?;
        let Call { wasi, memory } = self;
        Ok(wasi.vfs.unlink(base, memory.path(path, length)?)?)
    }
}

/// Whether `lookupflags` ask to follow a link in the last place.
fn follows(lookup: u32) -> Result<bool, Errno> {
    match lookup {
        0 => Ok(false),
        abi::LOOKUP_SYMLINK_FOLLOW => Ok(true),
        _ => Err(Errno::INVAL),
    }
}
