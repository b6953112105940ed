//! Memory that is a file: inputs that are read, and the page that is shared with the agent. The only `unsafe` of a runner.
//!
//! Invariants: an [`Input`] is a private read-only mapping of bytes that nobody changes (blobs are immutable, other
//! inputs are sealed), alive as long as somebody holds it. A [`Shared`] mapping is only ever touched through atomic
//! words and through copies into it; no reference to its bytes exists.

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An address range that is unmapped when it is dropped.
struct Range {
    start: NonNull<u8>,
    len: usize,
}

#[expect(unsafe_code, reason = "a range owns its mapping, which no thread is special to")]
// SAFETY: the pointer is owned, and mappings belong to the process, not to a thread.
unsafe impl Send for Range {}
#[expect(
    unsafe_code,
    reason = "the owners below read it, or write it through atomics and from one thread only"
)]
// SAFETY: see the reason.
unsafe impl Sync for Range {}

impl Range {
    fn map(file: &File, len: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Range> {
        #[expect(unsafe_code, reason = "mapping memory has no safe form")]
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Range { start, len })
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "unmapping memory has no safe form")]
        // SAFETY: the range is what `map` got, it is unmapped once, and its owner is going.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok(), "a whole mapping can always be unmapped");
    }
}

/// A file's bytes.
struct Input(Range);

impl AsRef<[u8]> for Input {
    fn as_ref(&self) -> &[u8] {
        #[expect(unsafe_code, reason = "a mapping is no Rust object")]
        // SAFETY: the range is mapped readable and stays so while `self` lives. Its bytes do not change: the agent hands
        // out only blob files, which are written once and then renamed into place, and sealed anonymous files.
        // Should a disk fail under it, the kernel ends this process, and the agent sees a crash.
        unsafe {
            std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len)
        }
    }
}

/// Maps the first `size` bytes of an input.
///
/// # Errors
///
/// If the file is shorter, or cannot be mapped.
pub fn map_input(file: &File, size: u64) -> io::Result<Bytes> {
    if size == 0 {
        return Ok(Bytes::new());
    }
    if size_of(file)? < size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the input is shorter than it was said to be",
        ));
    }
    let len = usize::try_from(size).map_err(io::Error::other)?;
    let range = Range::map(file, len, ProtFlags::READ, MapFlags::PRIVATE)?;
    Ok(Bytes::from_owner(Input(range)))
}

/// The size of an open file by `fstat`: the standard library asks with `statx`, which kills a confined runner.
///
/// # Errors
///
/// If the kernel does not tell.
pub fn size_of(file: &File) -> io::Result<u64> {
    u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)
}

/// Memory that the agent reads too, by reading the file.
pub struct Shared(Range);

impl Shared {
    /// Maps the first `len` bytes of `file` for writing.
    ///
    /// # Errors
    ///
    /// If the file is shorter, or cannot be mapped.
    pub fn map(file: &File, len: usize) -> io::Result<Shared> {
        if size_of(file)? < len as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shared page is too short"));
        }
        Ok(Shared(Range::map(file, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?))
    }

    /// The `index`-th word of eight bytes.
    ///
    /// # Panics
    ///
    /// If it lies outside.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.0.len / 8, "a word of the shared page");
        #[expect(unsafe_code, reason = "a mapping is no Rust object")]
        // SAFETY: inside of the range by the assertion, aligned because mappings are, and only accessed as an atomic.
        unsafe {
            AtomicU64::from_ptr(self.0.start.as_ptr().cast::<u64>().add(index))
        }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.0.len), "a part of the shared page");
        #[expect(unsafe_code, reason = "a mapping is no Rust object")]
        // SAFETY: inside of the range by the assertion; `bytes` is a Rust object and so not part of the mapping; the one
        // thread that executes guests is the only writer, and nothing in this process reads these bytes.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.start.as_ptr().add(offset), bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::sync::atomic::Ordering;

    use super::super::frames::anonymous_file;
    use super::*;

    #[test]
    fn an_input_outlives_its_file_and_its_slices_share_it() {
        let file = anonymous_file("test").unwrap();
        file.write_all_at(b"hello world", 0).unwrap();
        let whole = map_input(&file, 11).unwrap();
        drop(file);
        let part = whole.slice(6..);
        drop(whole);
        assert_eq!(part, "world");
    }

    #[test]
    fn a_file_that_is_too_short_is_not_mapped() {
        let file = anonymous_file("test").unwrap();
        assert!(map_input(&file, 1).is_err());
        assert!(map_input(&file, 0).unwrap().is_empty());
        assert!(Shared::map(&file, 4096).is_err());
    }

    #[test]
    fn what_is_written_to_shared_memory_is_read_from_the_file() {
        let file = anonymous_file("test").unwrap();
        file.set_len(8192).unwrap();
        let shared = Shared::map(&file, 8192).unwrap();
        shared.word(1).store(7, Ordering::Release);
        shared.copy_in(8189, b"end");
        let mut bytes = [0; 8192];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((bytes[8], &bytes[8189..]), (7, &b"end"[..]));
    }
}
