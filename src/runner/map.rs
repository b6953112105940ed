//! Maps an input's file into memory: the one place of the runner with `unsafe`.

use std::fs::File;
use std::io;

use bytes::Bytes;

/// The first `size` bytes of `file`, shared and never copied.
///
/// # Errors
///
/// If the file is shorter, or cannot be mapped.
pub fn map(file: &File, size: u64) -> io::Result<Bytes> {
    if size == 0 {
        return Ok(Bytes::new());
    }
    if file.metadata()?.len() < size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the input is shorter than announced"));
    }
    let length = usize::try_from(size).map_err(io::Error::other)?;
    #[expect(
        unsafe_code,
        reason = "a mapping is only as constant as its file. Inputs are blobs, which are written once under another \
                  name and then renamed, or memory files that the agent filled before it sent them; nobody writes to either \
                  again, and a blob that is deleted meanwhile stays whole while it is mapped"
    )]
    // SAFETY: see the reason.
    let map = unsafe { memmap2::MmapOptions::new().len(length).map(file) }?;
    Ok(Bytes::from_owner(map))
}
