//! The numbers of WASI preview 1: errno, rights, file types and flags, and the layout of its records.
//!
//! Source: `wasi_snapshot_preview1.witx` of the WASI repository.

use crate::vfs::{FileType, FsError, Stat};

/// An error number as the guest sees it; 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub u16);

macro_rules! errnos {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*
        }
    };
}
errnos! {
    SUCCESS = 0, BADF = 8, BUSY = 10, EXIST = 20, FBIG = 22, ILSEQ = 25, INVAL = 28, ISDIR = 31, LOOP = 32, MFILE = 33,
    NAMETOOLONG = 37, NOENT = 44, NOSPC = 51, NOSYS = 52, NOTDIR = 54, NOTEMPTY = 55, NOTSOCK = 57, OVERFLOW = 61,
    PERM = 63, ROFS = 69, SPIPE = 70, XDEV = 75, NOTCAPABLE = 76,
}

/// What a descriptor may be used for.
pub mod rights {
    macro_rules! rights {
        ($($name:ident = $bit:literal),* $(,)?) => {
            $(pub const $name: u64 = 1 << $bit;)*
        };
    }
    rights! {
        FD_DATASYNC = 0, FD_READ = 1, FD_SEEK = 2, FD_FDSTAT_SET_FLAGS = 3, FD_SYNC = 4, FD_TELL = 5, FD_WRITE = 6,
        FD_ADVISE = 7, FD_ALLOCATE = 8, PATH_CREATE_DIRECTORY = 9, PATH_CREATE_FILE = 10, PATH_LINK_SOURCE = 11,
        PATH_LINK_TARGET = 12, PATH_OPEN = 13, FD_READDIR = 14, PATH_READLINK = 15, PATH_RENAME_SOURCE = 16,
        PATH_RENAME_TARGET = 17, PATH_FILESTAT_GET = 18, PATH_FILESTAT_SET_TIMES = 20, FD_FILESTAT_GET = 21,
        FD_FILESTAT_SET_SIZE = 22, FD_FILESTAT_SET_TIMES = 23, PATH_SYMLINK = 24, PATH_REMOVE_DIRECTORY = 25,
        PATH_UNLINK_FILE = 26, POLL_FD_READWRITE = 27,
    }

    /// Of every directory: what user lands expect of one.
    pub const DIRECTORY: u64 = PATH_CREATE_DIRECTORY
        | PATH_CREATE_FILE
        | PATH_LINK_SOURCE
        | PATH_LINK_TARGET
        | PATH_OPEN
        | FD_READDIR
        | PATH_READLINK
        | PATH_RENAME_SOURCE
        | PATH_RENAME_TARGET
        | PATH_SYMLINK
        | PATH_REMOVE_DIRECTORY
        | PATH_UNLINK_FILE
        | PATH_FILESTAT_GET
        | PATH_FILESTAT_SET_TIMES
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | FD_DATASYNC
        | FD_SYNC;
    /// Of every file, whatever it is opened for.
    pub const FILE: u64 = FD_DATASYNC
        | FD_SEEK
        | FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_TELL
        | FD_ADVISE
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | POLL_FD_READWRITE;
    /// Of a file that is open for writing, beyond [`FILE`].
    pub const FILE_WRITE: u64 = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;
    /// Of what is opened below a directory, at most.
    pub const INHERITING: u64 = DIRECTORY | FILE | FILE_WRITE | FD_READ;
    /// Of standard input.
    pub const STDIN: u64 =
        FD_READ | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | FD_SYNC | FD_DATASYNC | POLL_FD_READWRITE;
    /// Of standard output and standard error.
    pub const STDOUT: u64 =
        FD_WRITE | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | FD_SYNC | FD_DATASYNC | POLL_FD_READWRITE;
}

/// `filetype`: what cannot be said. Standard streams are this, as pipes are.
pub const FILETYPE_UNKNOWN: u8 = 0;
/// `filetype` of a directory.
pub const FILETYPE_DIRECTORY: u8 = 3;
/// `filetype` of a regular file.
pub const FILETYPE_REGULAR_FILE: u8 = 4;
/// `filetype` of a symbolic link.
pub const FILETYPE_SYMBOLIC_LINK: u8 = 7;

/// `lookupflags`: follow a link in the last place.
pub const LOOKUP_SYMLINK_FOLLOW: u32 = 1;
/// `oflags`.
pub const OFLAGS_CREAT: u32 = 1;
/// `oflags`.
pub const OFLAGS_DIRECTORY: u32 = 2;
/// `oflags`.
pub const OFLAGS_EXCL: u32 = 4;
/// `oflags`.
pub const OFLAGS_TRUNC: u32 = 8;
/// `fdflags`: write at the end.
pub const FDFLAGS_APPEND: u16 = 1;
/// All `fdflags`. Those for synchronisation and blocking are kept and mean nothing here.
pub const FDFLAGS_ALL: u32 = 0x1f;
/// `fstflags`: set the access time, set it to now, and the same for the modification time.
pub const FSTFLAGS_ATIM: u32 = 1;
/// See [`FSTFLAGS_ATIM`].
pub const FSTFLAGS_ATIM_NOW: u32 = 2;
/// See [`FSTFLAGS_ATIM`].
pub const FSTFLAGS_MTIM: u32 = 4;
/// See [`FSTFLAGS_ATIM`].
pub const FSTFLAGS_MTIM_NOW: u32 = 8;
/// `advice`: the largest value.
pub const ADVICE_MAX: u32 = 5;

/// Bytes of a `dirent` before its name.
pub const DIRENT_BYTES: usize = 24;
/// Bytes of a `filestat`.
pub const FILESTAT_BYTES: u32 = 64;

/// The device that every file is on.
const DEVICE: u64 = 1;

/// `filetype` of an inode.
pub fn filetype(file_type: FileType) -> u8 {
    match file_type {
        FileType::Directory => FILETYPE_DIRECTORY,
        FileType::File => FILETYPE_REGULAR_FILE,
        FileType::Symlink => FILETYPE_SYMBOLIC_LINK,
    }
}

/// A `filestat`; that of a standard stream is without an inode.
pub fn filestat(stat: Option<Stat>) -> [u8; FILESTAT_BYTES as usize] {
    let mut record = [0; FILESTAT_BYTES as usize];
    let Some(stat) = stat else { return record };
    let times = stat.times;
    let words = [
        DEVICE,
        stat.inode,
        0,
        stat.links,
        stat.size,
        times.accessed_ns,
        times.modified_ns,
        times.changed_ns,
    ];
    for (place, word) in record.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    record[16] = filetype(stat.file_type);
    record
}

/// The errno of a refusal. A host without memory is no answer and has none.
pub fn errno(error: FsError) -> Option<Errno> {
    Some(match error {
        FsError::NoEntry => Errno::NOENT,
        FsError::Exists => Errno::EXIST,
        FsError::NotDirectory => Errno::NOTDIR,
        FsError::IsDirectory => Errno::ISDIR,
        FsError::NotEmpty => Errno::NOTEMPTY,
        FsError::Loop => Errno::LOOP,
        FsError::NameTooLong => Errno::NAMETOOLONG,
        FsError::NotPermitted => Errno::PERM,
        FsError::Invalid => Errno::INVAL,
        FsError::NoSpace => Errno::NOSPC,
        FsError::TooLarge => Errno::FBIG,
        FsError::ReadOnly => Errno::ROFS,
        FsError::CrossDevice => Errno::XDEV,
        FsError::BadDescriptor => Errno::BADF,
        FsError::Busy => Errno::BUSY,
        FsError::HostMemory => return None,
    })
}
