//! From a path to an inode, name by name, never out of the directory that the path starts from.
//!
//! A path is relative to an open directory. `..` there, an absolute path and an absolute link lead out and are not
//! permitted, also where the directory is the root: the same answer everywhere is easier to rely on.

use vocabulary::spec::PATH_BYTES_MAX;

use super::node::{Body, NodeId};
use super::{FsError, NAME_BYTES_MAX, Vfs};

/// Symbolic links that one path may lead through.
pub const SYMLINKS_MAX: u32 = 40;

/// What to do with a link in the last place of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Last {
    /// Take the link itself, for a change of the entry.
    Keep,
    /// Take the link itself, unless a slash after it asks for the directory behind it.
    Look,
    /// Take what it leads to.
    Follow,
}

impl Last {
    pub(super) fn follow_if(follow: bool) -> Last {
        if follow { Last::Follow } else { Last::Look }
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The directory that holds, or would hold, the last name.
    pub(super) parent: NodeId,
    /// The last name; empty where the path ends in `.` or `..`, which name no entry.
    pub(super) name: Box<str>,
    /// What is there.
    pub(super) node: Option<NodeId>,
    /// The path ends in a slash: only a directory can be meant.
    pub(super) slash: bool,
}

impl Resolved {
    pub(super) fn found(&self) -> Result<NodeId, FsError> {
        self.node.ok_or(FsError::NoEntry)
    }
}

/// Refuses texts that are no path of a guest at all, before anything is looked up.
fn check(path: &str) -> Result<(), FsError> {
    match path {
        "" => Err(FsError::NoEntry),
        _ if path.len() > PATH_BYTES_MAX => Err(FsError::NameTooLong),
        _ if path.contains('\0') => Err(FsError::Invalid),
        _ => Ok(()),
    }
}

impl Vfs {
    /// Follows `path` from the directory `base`. That nothing is there under the last name is no error.
    pub(super) fn resolve(&mut self, base: NodeId, path: &str, mode: Last) -> Result<Resolved, FsError> {
        check(path)?;
        let mut links = 0;
        let mut directory = base;
        // What is left of the path; after a link its target and what followed it.
        let mut text: std::borrow::Cow<'_, str> = path.into();
        let mut at = 0;
        let mut slash = false;
        loop {
            let rest = &text[at..];
            if rest.starts_with('/') && at == 0 {
                return Err(FsError::NotPermitted);
            }
            let rest = rest.trim_start_matches('/');
            let name = rest.split('/').next().unwrap_or_default();
            let after = &rest[name.len()..];
            let last = after.bytes().all(|byte| byte == b'/');
            slash |= last && !after.is_empty();
            let next_at = text.len() - after.len();
            if name.len() > NAME_BYTES_MAX {
                return Err(FsError::NameTooLong);
            }
            if self.nodes[directory].dir().is_none() {
                return Err(FsError::NotDirectory);
            }
            if name == "." || name == ".." {
                if name == ".." {
                    directory = self.parent(base, directory)?;
                }
                if last {
                    return Ok(Resolved { parent: directory, name: "".into(), node: Some(directory), slash });
                }
                at = next_at;
                continue;
            }
            let found = self.child(directory, name);
            if let Some(id) = found
                && let Body::Symlink(target) = &self.nodes[id].body
                && (!last || mode == Last::Follow || (mode == Last::Look && slash))
            {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(FsError::Loop);
                }
                // Slashes at the end are remembered, so what follows the target is either nothing or more names.
                let after = if last { "" } else { after };
                text = format!("{target}{after}").into();
                at = 0;
                continue;
            }
            if last {
                if slash && found.is_some_and(|id| self.nodes[id].dir().is_none()) {
                    return Err(FsError::NotDirectory);
                }
                return Ok(Resolved { parent: directory, name: name.into(), node: found, slash });
            }
            directory = found.ok_or(FsError::NoEntry)?;
            at = next_at;
        }
    }

    /// The directory above `directory`, which is at or below `base`.
    fn parent(&self, base: NodeId, directory: NodeId) -> Result<NodeId, FsError> {
        if directory == base {
            return Err(FsError::NotPermitted);
        }
        Ok(self.nodes[directory].dir().ok_or(FsError::NotDirectory)?.parent)
    }

    /// Checks that `directory` can be changed: it is no input, and it has not been removed.
    pub(super) fn check_writable(&self, directory: NodeId) -> Result<(), FsError> {
        let node = &self.nodes[directory];
        if node.read_only {
            return Err(FsError::ReadOnly);
        }
        if node.links == 0 && directory != self.root { Err(FsError::NoEntry) } else { Ok(()) }
    }
}

/// Refuses targets that a link may not have.
pub(super) fn check_target(target: &str) -> Result<(), FsError> {
    check(target)?;
    if target.starts_with('/') { Err(FsError::NotPermitted) } else { Ok(()) }
}
