//! Changes of directories: making, linking, renaming and removing, and what can be asked about a path.

use super::node::{Body, Dir, NodeId, Stat};
use super::open_file::OpenId;
use super::path::{Last, Resolved, check_target};
use super::{FsError, Vfs};
use vocabulary::spec::PATH_BYTES_MAX;

impl Vfs {
    /// What is at `path`; `follow` a link in the last place.
    pub fn stat_at(&mut self, base: OpenId, path: &str, follow: bool) -> Result<Stat, FsError> {
        let resolved = self.resolve(self.base(base)?, path, Last::follow_if(follow))?;
        Ok(self.nodes[resolved.found()?].stat())
    }

    /// Sets the times that are given, in nanoseconds since the Unix epoch.
    pub fn set_times_at(
        &mut self,
        base: OpenId,
        path: &str,
        follow: bool,
        accessed: Option<u64>,
        modified: Option<u64>,
    ) -> Result<(), FsError> {
        let resolved = self.resolve(self.base(base)?, path, Last::follow_if(follow))?;
        self.change_times(resolved.found()?, accessed, modified)
    }

    /// The target of a link.
    pub fn read_link(&mut self, base: OpenId, path: &str) -> Result<&str, FsError> {
        let resolved = self.resolve(self.base(base)?, path, Last::Look)?;
        match &self.nodes[resolved.found()?].body {
            Body::Symlink(target) => Ok(target),
            _ => Err(FsError::Invalid),
        }
    }

    /// Makes a directory.
    pub fn create_directory(&mut self, base: OpenId, path: &str) -> Result<(), FsError> {
        let resolved = self.resolve_new(base, path)?;
        self.make(resolved.parent, &resolved.name, Body::Dir(Dir::new(resolved.parent, 0)))?;
        Ok(())
    }

    /// Makes a symbolic link with a relative target, which need not exist.
    pub fn symlink(&mut self, target: &str, base: OpenId, path: &str) -> Result<(), FsError> {
        check_target(target)?;
        let resolved = self.resolve_new(base, path)?;
        if resolved.slash {
            return Err(FsError::NoEntry);
        }
        self.charge_bytes(target.len() as u64)?;
        let made = self.make(resolved.parent, &resolved.name, Body::Symlink(target.into()));
        if made.is_err() {
            self.bytes_used -= target.len() as u64;
        }
        made.map(|_| ())
    }

    /// Gives the file or link at `from` one more name.
    pub fn link(
        &mut self,
        from_base: OpenId,
        from: &str,
        follow: bool,
        to_base: OpenId,
        to: &str,
    ) -> Result<(), FsError> {
        let source = self.resolve(self.base(from_base)?, from, Last::follow_if(follow))?.found()?;
        let target = self.resolve_new(to_base, to)?;
        if target.slash {
            return Err(FsError::NoEntry);
        }
        let node = &self.nodes[source];
        if node.dir().is_some() {
            return Err(FsError::NotPermitted);
        }
        if node.read_only {
            return Err(FsError::CrossDevice);
        }
        let size = node.size();
        self.check_writable(target.parent)?;
        self.check_path_length(target.parent, &target.name)?;
        self.charge_bytes(size)?;
        if let Err(error) = self.charge_count() {
            self.bytes_used -= size;
            return Err(error);
        }
        self.attach(target.parent, &target.name, source);
        Ok(())
    }

    /// Removes the name of a file or link.
    pub fn unlink(&mut self, base: OpenId, path: &str) -> Result<(), FsError> {
        let resolved = self.resolve(self.base(base)?, path, Last::Keep)?;
        let node = &self.nodes[resolved.found()?];
        if node.dir().is_some() {
            return Err(FsError::IsDirectory);
        }
        self.remove(&resolved)
    }

    /// Removes an empty directory. What has it open sees it empty from then on.
    pub fn remove_directory(&mut self, base: OpenId, path: &str) -> Result<(), FsError> {
        let resolved = self.resolve(self.base(base)?, path, Last::Keep)?;
        let id = resolved.found()?;
        if self.nodes[id].dir().is_none() {
            return Err(FsError::NotDirectory);
        }
        if resolved.name.is_empty() {
            return Err(FsError::Invalid);
        }
        self.check_empty(id)?;
        self.remove(&resolved)
    }

    /// Moves an entry to another name, in place of what is there if that is of the same kind (and empty).
    pub fn rename(
        &mut self,
        from_base: OpenId,
        from: &str,
        to_base: OpenId,
        to: &str,
    ) -> Result<(), FsError> {
        let source = self.resolve(self.base(from_base)?, from, Last::Keep)?;
        let moved = source.found()?;
        let target = self.resolve_target(self.base(to_base)?, to)?;
        if source.name.is_empty() || target.name.is_empty() {
            return Err(FsError::Busy);
        }
        self.check_writable(source.parent)?;
        self.check_writable(target.parent)?;
        if self.nodes[moved].read_only {
            return Err(FsError::ReadOnly);
        }
        if target.node == Some(moved) {
            return Ok(());
        }
        let is_directory = self.nodes[moved].dir().is_some();
        if is_directory && self.is_inside(target.parent, moved) {
            return Err(FsError::Invalid);
        }
        if let Some(replaced) = target.node {
            self.check_replaced(is_directory, replaced)?;
        } else if target.slash && !is_directory {
            return Err(FsError::NotDirectory);
        }
        let path_length = self.check_path_length(target.parent, &target.name)?;
        self.move_paths(moved, path_length)?;
        if target.node.is_some() {
            self.detach(target.parent, &target.name);
        }
        if let Body::Dir(dir) = &mut self.nodes[source.parent].body {
            dir.entries.remove(&source.name);
        }
        self.nodes[moved].links -= 1;
        self.attach(target.parent, &target.name, moved);
        if let Body::Dir(dir) = &mut self.nodes[moved].body {
            dir.parent = target.parent;
        }
        Ok(())
    }

    /// Makes an inode at the guest's expense.
    pub(super) fn make(&mut self, parent: NodeId, name: &str, mut body: Body) -> Result<NodeId, FsError> {
        self.check_writable(parent)?;
        let length = self.check_path_length(parent, name)?;
        self.charge_count()?;
        if let Body::Dir(dir) = &mut body {
            dir.path_length = length;
        }
        let id = self.add(body);
        self.nodes[id].charged = true;
        self.attach(parent, name, id);
        Ok(id)
    }

    pub(super) fn change_times(
        &mut self,
        id: NodeId,
        accessed: Option<u64>,
        modified: Option<u64>,
    ) -> Result<(), FsError> {
        let node = &mut self.nodes[id];
        if node.read_only {
            return Err(FsError::ReadOnly);
        }
        node.times.accessed_ns = accessed.unwrap_or(node.times.accessed_ns);
        node.times.modified_ns = modified.unwrap_or(node.times.modified_ns);
        Ok(())
    }

    /// A place where nothing is yet.
    fn resolve_new(&mut self, base: OpenId, path: &str) -> Result<Resolved, FsError> {
        let resolved = self.resolve_target(self.base(base)?, path)?;
        if resolved.node.is_some() { Err(FsError::Exists) } else { Ok(resolved) }
    }

    fn resolve_target(&mut self, base: NodeId, path: &str) -> Result<Resolved, FsError> {
        self.resolve(base, path, Last::Keep)
    }

    fn remove(&mut self, resolved: &Resolved) -> Result<(), FsError> {
        self.check_writable(resolved.parent)?;
        if self.nodes[resolved.found()?].read_only {
            return Err(FsError::ReadOnly);
        }
        self.detach(resolved.parent, &resolved.name);
        Ok(())
    }

    fn check_replaced(&self, by_directory: bool, replaced: NodeId) -> Result<(), FsError> {
        let node = &self.nodes[replaced];
        match (by_directory, node.dir().is_some()) {
            (true, false) => return Err(FsError::NotDirectory),
            (false, true) => return Err(FsError::IsDirectory),
            _ if node.read_only => return Err(FsError::ReadOnly),
            _ => {}
        }
        if by_directory { self.check_empty(replaced) } else { Ok(()) }
    }

    /// A mounted directory counts as one that is not empty, looked into or not.
    fn check_empty(&self, id: NodeId) -> Result<(), FsError> {
        let empty = self.nodes[id].dir().is_some_and(|dir| dir.entries.is_empty() && dir.packed.is_none());
        if empty { Ok(()) } else { Err(FsError::NotEmpty) }
    }

    /// Whether `directory` is `ancestor` or below it. Paths have at most 4,096 bytes, so the way up is short.
    fn is_inside(&self, mut directory: NodeId, ancestor: NodeId) -> bool {
        loop {
            if directory == ancestor {
                return true;
            }
            match self.nodes[directory].dir() {
                Some(dir) if dir.parent != directory => directory = dir.parent,
                _ => return false,
            }
        }
    }

    /// Notes that the path of `moved` gets `length` bytes, and so other lengths for what is below it, if all stay short
    /// enough.
    fn move_paths(&mut self, moved: NodeId, length: usize) -> Result<(), FsError> {
        let Some(old) = self.nodes[moved].dir().map(|dir| dir.path_length) else { return Ok(()) };
        if old == length {
            return Ok(());
        }
        let mut directories = vec![moved];
        let mut next = 0;
        while let Some(id) = directories.get(next).copied() {
            next += 1;
            let Some(dir) = self.nodes[id].dir() else { continue };
            for (name, entry) in &dir.entries {
                let below = &self.nodes[entry.node];
                if below.read_only {
                    continue;
                }
                if dir.path_length + 1 + name.len() + length - old > PATH_BYTES_MAX {
                    return Err(FsError::NameTooLong);
                }
                if below.dir().is_some() {
                    directories.push(entry.node);
                }
            }
        }
        for id in directories {
            if let Body::Dir(dir) = &mut self.nodes[id].body {
                dir.path_length = dir.path_length + length - old;
            }
        }
        Ok(())
    }
}
