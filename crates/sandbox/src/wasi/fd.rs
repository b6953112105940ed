//! The functions that take a descriptor.

use std::ops::ControlFlow;

use super::abi::{self, rights};
use super::memory::{Iovecs, Memory, aligned};
use super::table::Target;
use super::{Answer, Call, Errno, Fail, WasiState};
use crate::vfs::{FsError, OpenId, SeekFrom};

/// The name of the only preopened directory.
const PREOPEN_NAME: &[u8] = b"/";

impl Call<'_> {
    pub(super) fn fd_advise(&mut self, fd: u32, _offset: u64, _length: u64, advice: u32) -> Answer {
        self.wasi.file(fd, rights::FD_ADVISE, Errno::SPIPE)?;
        if advice > abi::ADVICE_MAX { Err(Errno::INVAL.into()) } else { Ok(()) }
    }

    pub(super) fn fd_allocate(&mut self, fd: u32, offset: u64, length: u64) -> Answer {
        let open = self.wasi.file(fd, rights::FD_ALLOCATE, Errno::SPIPE)?;
        Ok(self.wasi.vfs.allocate(open, offset, length)?)
    }

    pub(super) fn fd_close(&mut self, fd: u32) -> Answer {
        let closed = self.wasi.table.remove(fd)?;
        self.wasi.close(&closed);
        Ok(())
    }

    pub(super) fn fd_datasync(&mut self, fd: u32) -> Answer {
        Ok(self.wasi.table.get(fd)?.check(rights::FD_DATASYNC)?)
    }

    pub(super) fn fd_sync(&mut self, fd: u32) -> Answer {
        Ok(self.wasi.table.get(fd)?.check(rights::FD_SYNC)?)
    }

    pub(super) fn fd_fdstat_get(&mut self, fd: u32, stat: u32) -> Answer {
        let descriptor = self.wasi.table.get(fd)?;
        let filetype = match descriptor.target {
            Target::Stdin | Target::Stdout | Target::Stderr => abi::FILETYPE_UNKNOWN,
            Target::File(_) => abi::FILETYPE_REGULAR_FILE,
            Target::Directory { .. } => abi::FILETYPE_DIRECTORY,
        };
        let mut record = [0; 24];
        record[0] = filetype;
        record[2..4].copy_from_slice(&descriptor.flags.to_le_bytes());
        record[8..16].copy_from_slice(&descriptor.base.to_le_bytes());
        record[16..24].copy_from_slice(&descriptor.inheriting.to_le_bytes());
        aligned(stat, 8)?;
        Ok(self.memory.write(stat, &record)?)
    }

    pub(super) fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u32) -> Answer {
        let descriptor = self.wasi.table.get_mut(fd)?;
        descriptor.check(rights::FD_FDSTAT_SET_FLAGS)?;
        descriptor.flags = checked_fdflags(flags)?;
        Ok(())
    }

    pub(super) fn fd_fdstat_set_rights(&mut self, fd: u32, base: u64, inheriting: u64) -> Answer {
        let descriptor = self.wasi.table.get_mut(fd)?;
        if base & !descriptor.base != 0 || inheriting & !descriptor.inheriting != 0 {
            return Err(Errno::NOTCAPABLE.into());
        }
        (descriptor.base, descriptor.inheriting) = (base, inheriting);
        Ok(())
    }

    pub(super) fn fd_filestat_get(&mut self, fd: u32, stat: u32) -> Answer {
        let descriptor = self.wasi.table.get(fd)?;
        descriptor.check(rights::FD_FILESTAT_GET)?;
        let found = descriptor.open().map(|open| self.wasi.vfs.stat(open)).transpose()?;
        aligned(stat, 8)?;
        Ok(self.memory.write(stat, &abi::filestat(found))?)
    }

    pub(super) fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Answer {
        let open = self.wasi.file(fd, rights::FD_FILESTAT_SET_SIZE, Errno::INVAL)?;
        Ok(self.wasi.vfs.set_size(open, size)?)
    }

    pub(super) fn fd_filestat_set_times(
        &mut self,
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Answer {
        let descriptor = self.wasi.table.get(fd)?;
        let open = descriptor.open().ok_or(Errno::INVAL)?;
        descriptor.check(rights::FD_FILESTAT_SET_TIMES)?;
        let (accessed, modified) = self.wasi.times(accessed, modified, flags)?;
        Ok(self.wasi.vfs.set_times(open, accessed, modified)?)
    }

    pub(super) fn fd_pread(&mut self, fd: u32, iovecs: u32, count: u32, offset: u64, read: u32) -> Answer {
        let open = self.wasi.file(fd, rights::FD_READ | rights::FD_SEEK, Errno::SPIPE)?;
        let Call { wasi, memory } = self;
        let mut at = offset;
        let total = memory.fill(iovecs, count, |buffer| {
            let length = wasi.vfs.read_at(open, at, buffer)?;
            at = at.saturating_add(length as u64);
            Ok(length)
        })?;
        Ok(memory.write_u32(read, total)?)
    }

    pub(super) fn fd_read(&mut self, fd: u32, iovecs: u32, count: u32, read: u32) -> Answer {
        let descriptor = self.wasi.table.get(fd)?;
        let source = match descriptor.target {
            Target::Directory { .. } => return Err(Errno::ISDIR.into()),
            Target::File(open) => Some(open),
            Target::Stdin | Target::Stdout | Target::Stderr => None,
        };
        descriptor.check(rights::FD_READ)?;
        let Call { wasi, memory } = self;
        let total = memory.fill(iovecs, count, |buffer| match source {
            Some(open) => wasi.vfs.read(open, buffer),
            None => Ok(wasi.stdio.read(buffer)),
        })?;
        Ok(memory.write_u32(read, total)?)
    }

    pub(super) fn fd_pwrite(
        &mut self,
        fd: u32,
        iovecs: u32,
        count: u32,
        offset: u64,
        written: u32,
    ) -> Answer {
        let open = self.wasi.file(fd, rights::FD_WRITE | rights::FD_SEEK, Errno::SPIPE)?;
        let Call { wasi, memory } = self;
        let mut at = offset;
        let total = memory.drain(iovecs, count, |bytes| {
            let length = wasi.vfs.write_at(open, at, bytes)?;
            at = at.saturating_add(length as u64);
            Ok(length)
        })?;
        Ok(memory.write_u32(written, total)?)
    }

    pub(super) fn fd_write(&mut self, fd: u32, iovecs: u32, count: u32, written: u32) -> Answer {
        let descriptor = self.wasi.table.get(fd)?;
        let append = descriptor.flags & abi::FDFLAGS_APPEND != 0;
        let target = descriptor.target;
        if let Target::Directory { .. } = target {
            return Err(Errno::ISDIR.into());
        }
        descriptor.check(rights::FD_WRITE)?;
        let Call { wasi, memory } = self;
        let total = memory.drain(iovecs, count, |bytes| match target {
            Target::File(open) if append => Ok(wasi.vfs.append(open, bytes)?),
            Target::File(open) => Ok(wasi.vfs.write(open, bytes)?),
            _ => {
                wasi.stdio.write(target == Target::Stderr, bytes)?;
                Ok(bytes.len())
            }
        })?;
        Ok(memory.write_u32(written, total)?)
    }

    pub(super) fn fd_prestat_get(&mut self, fd: u32, prestat: u32) -> Answer {
        self.wasi.preopen(fd)?;
        aligned(prestat, 4)?;
        let mut record = [0; 8];
        record[4..].copy_from_slice(&(PREOPEN_NAME.len() as u32).to_le_bytes());
        Ok(self.memory.write(prestat, &record)?)
    }

    pub(super) fn fd_prestat_dir_name(&mut self, fd: u32, buffer: u32, length: u32) -> Answer {
        self.wasi.preopen(fd)?;
        if (length as usize) < PREOPEN_NAME.len() {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(self.memory.write(buffer, PREOPEN_NAME)?)
    }

    /// Fills the buffer to its end, with a cut entry if need be: that it is full tells the guest to come again.
    pub(super) fn fd_readdir(&mut self, fd: u32, buffer: u32, length: u32, cookie: u64, used: u32) -> Answer {
        let open = self.wasi.directory(fd, rights::FD_READDIR)?;
        let Call { wasi, memory } = self;
        let buffer = memory.bytes_mut(buffer, length)?;
        let mut at = 0;
        wasi.vfs.list(open, cookie, |entry| {
            let mut head = [0; abi::DIRENT_BYTES];
            head[0..8].copy_from_slice(&entry.cookie.to_le_bytes());
            head[8..16].copy_from_slice(&entry.inode.to_le_bytes());
            head[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
            head[20] = abi::filetype(entry.file_type);
            for piece in [&head, entry.name.as_bytes()] {
                let fits = piece.len().min(buffer.len() - at);
                buffer[at..at + fits].copy_from_slice(&piece[..fits]);
                at += fits;
                if fits < piece.len() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(memory.write_u32(used, at as u32)?)
    }

    pub(super) fn fd_renumber(&mut self, from: u32, to: u32) -> Answer {
        if let Some(closed) = self.wasi.table.renumber(from, to)? {
            self.wasi.close(&closed);
        }
        Ok(())
    }

    pub(super) fn fd_seek(&mut self, fd: u32, offset: i64, whence: u32, position: u32) -> Answer {
        // To ask for the position needs less than to change it.
        let right = if offset == 0 && whence == 1 { rights::FD_TELL } else { rights::FD_SEEK };
        let open = self.wasi.file(fd, right, Errno::SPIPE)?;
        let to = match whence {
            0 => SeekFrom::Start(offset),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(Errno::INVAL.into()),
        };
        let at = self.wasi.vfs.seek(open, to)?;
        Ok(self.memory.write_u64(position, at)?)
    }

    pub(super) fn fd_tell(&mut self, fd: u32, position: u32) -> Answer {
        let open = self.wasi.file(fd, rights::FD_TELL, Errno::SPIPE)?;
        let at = self.wasi.vfs.seek(open, SeekFrom::Current(0))?;
        Ok(self.memory.write_u64(position, at)?)
    }
}

impl WasiState {
    fn preopen(&self, fd: u32) -> Result<OpenId, Errno> {
        match self.table.get(fd)?.target {
            Target::Directory { open, preopen: true } => Ok(open),
            _ => Err(Errno::BADF),
        }
    }

    /// The times that `fstflags` ask to set. The present costs one reading of the clock.
    pub(super) fn times(
        &mut self,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<(Option<u64>, Option<u64>), Errno> {
        use abi::{FSTFLAGS_ATIM, FSTFLAGS_ATIM_NOW, FSTFLAGS_MTIM, FSTFLAGS_MTIM_NOW};
        let has = |flag| flags & flag != 0;
        let unknown = flags & !(FSTFLAGS_ATIM | FSTFLAGS_ATIM_NOW | FSTFLAGS_MTIM | FSTFLAGS_MTIM_NOW) != 0;
        let both =
            (has(FSTFLAGS_ATIM) && has(FSTFLAGS_ATIM_NOW)) || (has(FSTFLAGS_MTIM) && has(FSTFLAGS_MTIM_NOW));
        if unknown || both {
            return Err(Errno::INVAL);
        }
        let needs_now = has(FSTFLAGS_ATIM_NOW) || has(FSTFLAGS_MTIM_NOW);
        let now = needs_now.then(|| self.clock.read(super::clock::ClockId::Realtime));
        let pick = |set, value, set_now| if has(set) { Some(value) } else { now.filter(|_| has(set_now)) };
        Ok((
            pick(FSTFLAGS_ATIM, accessed, FSTFLAGS_ATIM_NOW),
            pick(FSTFLAGS_MTIM, modified, FSTFLAGS_MTIM_NOW),
        ))
    }
}

impl Memory<'_> {
    /// Reads into the guest's buffers in turn until one is not filled; returns the bytes read.
    fn fill(
        &mut self,
        iovecs: u32,
        count: u32,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, FsError>,
    ) -> Result<u32, Fail> {
        let list: Iovecs = self.iovecs(iovecs, count)?;
        let mut total = 0;
        for index in 0..list.count {
            let (at, length) = self.iovec(list, index)?;
            let done = read(self.bytes_mut(at, length)?)? as u32;
            // The list was checked, but a guest may read over it while it is used.
            total = done.checked_add(total).ok_or(Errno::INVAL)?;
            if done < length {
                break;
            }
        }
        Ok(total)
    }

    /// Writes from the guest's buffers in turn until one is not taken whole; returns the bytes written. A failure after the
    /// first bytes is left for the next call to find, as in POSIX.
    fn drain(
        &self,
        iovecs: u32,
        count: u32,
        mut write: impl FnMut(&[u8]) -> Result<usize, Fail>,
    ) -> Result<u32, Fail> {
        let list = self.iovecs(iovecs, count)?;
        let mut total = 0;
        for index in 0..list.count {
            let (at, length) = self.iovec(list, index)?;
            let done = match write(self.bytes(at, length)?) {
                Ok(done) => done as u32,
                Err(Fail::Errno(_)) if total > 0 => break,
                Err(fail) => return Err(fail),
            };
            total += done;
            if done < length {
                break;
            }
        }
        Ok(total)
    }
}

/// `fdflags` that exist.
pub(super) fn checked_fdflags(flags: u32) -> Result<u16, Errno> {
    if flags & !abi::FDFLAGS_ALL == 0 { Ok(flags as u16) } else { Err(Errno::INVAL) }
}
