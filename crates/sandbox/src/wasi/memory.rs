//! The guest's memory, with every access checked.
//!
//! A pointer outside of the memory, or one that is not aligned as the record behind it wants, is a fault of the guest and
//! ends it ([`HostAbiError`]), as the WASI documents demand. Equal guests meet it equally.

use super::{Errno, Fail, HostAbiError};
use vocabulary::spec::PATH_BYTES_MAX;

/// Buffers that one call may read into or write from: `IOV_MAX` of Linux.
pub const IOVECS_MAX: u32 = 1_024;

const IOVEC_BYTES: u32 = 8;

/// The linear memory during one call.
pub struct Memory<'a>(pub &'a mut [u8]);

impl Memory<'_> {
    /// The `length` bytes at `at`.
    pub fn bytes(&self, at: u32, length: u32) -> Result<&[u8], HostAbiError> {
        let at = at as usize;
        self.0.get(at..at + length as usize).ok_or(HostAbiError("a pointer leads out of the memory"))
    }

    /// The `length` bytes at `at`, to be written.
    pub fn bytes_mut(&mut self, at: u32, length: u32) -> Result<&mut [u8], HostAbiError> {
        let at = at as usize;
        self.0.get_mut(at..at + length as usize).ok_or(HostAbiError("a pointer leads out of the memory"))
    }

    /// Copies an array of bytes out.
    pub fn read<const N: usize>(&self, at: u32) -> Result<[u8; N], HostAbiError> {
        let bytes = self.bytes(at, N as u32)?;
        Ok(*bytes.first_chunk().expect("bytes() gives as many as asked for"))
    }

    /// Writes a byte array (no alignment).
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), HostAbiError> {
        self.bytes_mut(at, bytes.len() as u32)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a `u32`.
    pub fn write_u32(&mut self, at: u32, value: u32) -> Result<(), HostAbiError> {
        aligned(at, 4)?;
        self.write(at, &value.to_le_bytes())
    }

    /// Writes a `u64`.
    pub fn write_u64(&mut self, at: u32, value: u64) -> Result<(), HostAbiError> {
        aligned(at, 8)?;
        self.write(at, &value.to_le_bytes())
    }

    /// A path: valid UTF-8 of bounded length.
    pub fn path(&self, at: u32, length: u32) -> Result<&str, Fail> {
        let bytes = self.bytes(at, length)?;
        if bytes.len() > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        std::str::from_utf8(bytes).map_err(|_| Errno::ILSEQ.into())
    }

    /// Checks a list of buffers as a whole: their number, and that their lengths have a sum that can be answered.
    pub fn iovecs(&self, at: u32, count: u32) -> Result<Iovecs, Fail> {
        if count > IOVECS_MAX {
            return Err(Errno::INVAL.into());
        }
        aligned(at, 4)?;
        let list = self.bytes(at, count * IOVEC_BYTES)?;
        let mut sum = 0_u32;
        for entry in list.chunks_exact(IOVEC_BYTES as usize) {
            let length = entry[4..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
            sum = sum.checked_add(length).ok_or(Errno::INVAL)?;
        }
        Ok(Iovecs { at, count })
    }

    /// The address and length of one buffer.
    pub fn iovec(&self, list: Iovecs, index: u32) -> Result<(u32, u32), HostAbiError> {
        let entry: [u8; 8] = self.read(list.at + index * IOVEC_BYTES)?;
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        Ok((word(0), word(4)))
    }
}

/// A checked list of buffers.
#[derive(Clone, Copy)]
pub struct Iovecs {
    at: u32,
    /// How many there are.
    pub count: u32,
}

/// Refuses a pointer that is not a multiple of `alignment`.
pub fn aligned(at: u32, alignment: u32) -> Result<(), HostAbiError> {
    if at.is_multiple_of(alignment) { Ok(()) } else { Err(HostAbiError("a pointer is not aligned")) }
}
