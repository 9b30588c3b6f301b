//! Files and directories with what is durable, what is visible, and the changes that lie between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use super::content::{Content, Slot, torn};

/// Names a node for as long as its file system lives.
pub(super) type Id = usize;
pub(super) type Names = BTreeMap<Arc<str>, Id>;

pub(super) const ROOT: Id = 0;

/// A change that is visible and not yet durable. `number` grows with each change of the whole file system.
#[derive(Clone)]
pub(super) struct Pending<C> {
    pub(super) number: u64,
    pub(super) change: C,
}

#[derive(Clone)]
pub(super) enum FileChange {
    /// One page as it is after a write.
    Page(usize, Slot),
    /// The length alone. It may reach the disk before the pages that it makes visible, or without them.
    Grow(u64),
    /// A shorter length; the bytes behind it are gone.
    Cut(u64),
}

#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) name: Arc<str>,
    pub(super) to: Option<Id>,
    /// A rename takes the old name away only with the new one in place: the number of the change that puts it there.
    pub(super) needs: Option<u64>,
}

#[derive(Clone, Default)]
pub(super) struct FileNode {
    pub(super) durable: Content,
    pub(super) visible: Content,
    pub(super) pending: Vec<Pending<FileChange>>,
    /// A sync failed, so that what is visible is no longer what the next sync will make durable.
    pub(super) lossy: bool,
    /// What it says is only who took its lock last, and which process that was makes no state another one.
    pub(super) only_a_lock: bool,
}

#[derive(Clone, Default)]
pub(super) struct DirectoryNode {
    pub(super) durable: Arc<Names>,
    pub(super) visible: Arc<Names>,
    pub(super) pending: Vec<Pending<NameChange>>,
    pub(super) lossy: bool,
}

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Directory(Arc<DirectoryNode>),
}

impl FileChange {
    /// Carries the change out; of a page only the sectors of `mask` where that is not all of them.
    pub(super) fn apply(&self, content: &mut Content, mask: u8) {
        match self {
            Self::Page(number, new) if mask == u8::MAX => content.set_page(*number, new.clone()),
            Self::Page(number, new) => content.set_page(*number, torn(&content.page(*number), new, mask)),
            Self::Grow(len) => content.set_len(*len),
            Self::Cut(len) => content.cut(*len),
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        match self.to {
            Some(id) => names.insert(Arc::clone(&self.name), id),
            None => names.remove(&self.name),
        };
    }
}

impl FileNode {
    /// A file as it is found after a crash.
    pub(super) fn settled(mut content: Content) -> Self {
        content.cut(content.len());
        Self { durable: content.clone(), visible: content, ..Self::default() }
    }

    fn sync(&mut self) {
        if self.lossy {
            for pending in self.pending.drain(..) {
                pending.change.apply(&mut self.durable, u8::MAX);
            }
            self.durable.cut(self.durable.len());
        } else {
            self.durable = self.visible.clone();
            self.pending.clear();
        }
    }

    fn lose(&mut self) {
        self.lossy = true;
        self.pending.clear();
    }
}

impl DirectoryNode {
    pub(super) fn settled(names: Arc<Names>) -> Self {
        Self { durable: Arc::clone(&names), visible: names, pending: Vec::new(), lossy: false }
    }

    fn sync(&mut self) {
        if self.lossy {
            let durable = Arc::make_mut(&mut self.durable);
            for pending in self.pending.drain(..) {
                pending.change.apply(durable);
            }
        } else {
            self.durable = Arc::clone(&self.visible);
            self.pending.clear();
        }
    }

    /// Makes one change durable, and with it what went before under the same name.
    fn sync_one(&mut self, number: u64) {
        let Some(found) = self.pending.iter().find(|pending| pending.number == number) else { return };
        let change = found.change.clone();
        change.apply(Arc::make_mut(&mut self.durable));
        self.pending.retain(|pending| pending.number > number || pending.change.name != change.name);
    }

    fn lose(&mut self) {
        self.lossy = true;
        self.pending.clear();
    }
}

/// All nodes. A node that no name leads to any more stays until the next crash, because handles may still read it.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Option<Node>>,
    changes: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Some(Node::Directory(Arc::default()))], changes: 0 }
    }

    pub(super) fn settled(nodes: Vec<Option<Node>>) -> Self {
        Self { nodes, changes: 0 }
    }

    /// The directory that holds `path`, and the name in it. The root has neither.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Id, &'a str)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory_at(path.parent().unwrap_or(Path::new("")))?, name))
    }

    pub(super) fn directory_at(&self, path: &Path) -> io::Result<Id> {
        let id = self.find(path)?;
        match self.node(id) {
            Node::Directory(_) => Ok(id),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<Id> {
        let id = self.find(path)?;
        match self.node(id) {
            Node::File(_) => Ok(id),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let mut id = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            match self.node(id) {
                Node::Directory(directory) => {
                    id = *directory.visible.get(name).ok_or(io::ErrorKind::NotFound)?;
                }
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        Ok(id)
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        self.nodes[id].as_ref().expect("an id names a node for as long as anything holds it")
    }

    pub(super) fn file(&self, id: Id) -> &FileNode {
        match self.node(id) {
            Node::File(file) => file,
            Node::Directory(_) => unreachable!("a handle of a directory"),
        }
    }

    fn file_mut(&mut self, id: Id) -> &mut FileNode {
        match &mut self.nodes[id] {
            Some(Node::File(file)) => Arc::make_mut(file),
            _ => unreachable!("a handle of a directory"),
        }
    }

    pub(super) fn directory(&self, id: Id) -> &DirectoryNode {
        match self.node(id) {
            Node::Directory(directory) => directory,
            Node::File(_) => unreachable!("a file as a directory"),
        }
    }

    fn directory_mut(&mut self, id: Id) -> &mut DirectoryNode {
        match &mut self.nodes[id] {
            Some(Node::Directory(directory)) => Arc::make_mut(directory),
            _ => unreachable!("a file as a directory"),
        }
    }

    fn number(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn rename_entry(&mut self, directory: Id, name: &str, to: Option<Id>, needs: Option<u64>) -> u64 {
        let number = self.number();
        let change = NameChange { name: name.into(), to, needs };
        let directory = self.directory_mut(directory);
        change.apply(Arc::make_mut(&mut directory.visible));
        directory.pending.push(Pending { number, change });
        number
    }

    pub(super) fn create(&mut self, path: &Path, node: Node) -> io::Result<Id> {
        if path == Path::new("") {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (directory, name) = self.parent(path)?;
        if self.directory(directory).visible.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(Some(node));
        let id = self.nodes.len() - 1;
        self.rename_entry(directory, name, Some(id), None);
        Ok(id)
    }

    /// Takes a file's name away; the answer is the file that had it.
    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<Id> {
        let id = self.file_at(path)?;
        let (directory, name) = self.parent(path)?;
        self.rename_entry(directory, name, None, None);
        Ok(id)
    }

    /// Takes a directory's name away, and with it everything below.
    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.directory_at(path)?;
        let (directory, name) = self.parent(path)?;
        self.rename_entry(directory, name, None, None);
        self.sync_directory(directory);
        Ok(())
    }

    /// Renames a file; the answer is the file whose name that was until now.
    pub(super) fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<Option<Id>> {
        let id = self.file_at(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        let replaced = self.directory(to_directory).visible.get(to_name).copied();
        if let Some(replaced) = replaced {
            if !replace {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if matches!(self.node(replaced), Node::Directory(_)) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if replaced == id {
                return Ok(None);
            }
        }
        let (from_directory, from_name) = self.parent(from)?;
        let put = self.rename_entry(to_directory, to_name, Some(id), None);
        self.rename_entry(from_directory, from_name, None, Some(put));
        Ok(replaced)
    }

    pub(super) fn write(&mut self, id: Id, buf: &[u8], offset: u64) {
        let mut number = self.changes;
        let file = self.file_mut(id);
        file.only_a_lock = false;
        let before = file.visible.len();
        let pending = &mut file.pending;
        file.visible.write_at(buf, offset, |page, slot| {
            number += 1;
            pending.push(Pending { number, change: FileChange::Page(page, slot.clone()) });
        });
        if file.visible.len() > before {
            number += 1;
            file.pending.push(Pending { number, change: FileChange::Grow(file.visible.len()) });
        }
        self.changes = number;
    }

    pub(super) fn set_len(&mut self, id: Id, len: u64) {
        let number = self.number();
        let file = self.file_mut(id);
        file.only_a_lock = false;
        let change = if len < file.visible.len() { FileChange::Cut(len) } else { FileChange::Grow(len) };
        change.apply(&mut file.visible, u8::MAX);
        file.pending.push(Pending { number, change });
    }

    /// Writes who holds a lock. It is durable at once: nobody reads it after a cut, so no state is told by how far it came.
    pub(super) fn hold(&mut self, id: Id, holder: &[u8]) {
        let file = self.file_mut(id);
        let mut content = Content::default();
        content.write_at(holder, 0, |_, _| {});
        *file = FileNode { only_a_lock: true, ..FileNode::settled(content) };
    }

    pub(super) fn sync_file(&mut self, id: Id) {
        self.file_mut(id).sync();
    }

    pub(super) fn sync_directory(&mut self, id: Id) {
        let needed: Vec<u64> = self.directory(id).pending.iter().filter_map(|pending| pending.change.needs).collect();
        for number in needed {
            let holds = |node: &Option<Node>| match node {
                Some(Node::Directory(directory)) => directory.pending.iter().any(|pending| pending.number == number),
                _ => false,
            };
            if let Some(other) = self.nodes.iter().position(holds)
                && other != id
            {
                self.directory_mut(other).sync_one(number);
            }
        }
        self.directory_mut(id).sync();
    }

    /// What a failed sync leaves: the changes stay visible and no later sync makes them durable.
    pub(super) fn lose(&mut self, id: Id) {
        match self.node(id) {
            Node::File(_) => self.file_mut(id).lose(),
            Node::Directory(_) => self.directory_mut(id).lose(),
        }
    }

    /// Makes everything durable as it is visible.
    pub(super) fn settle(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            match node {
                Node::File(file) if file.only_a_lock => {}
                Node::File(file) => *file = Arc::new(FileNode::settled(file.visible.clone())),
                Node::Directory(directory) => {
                    *directory = Arc::new(DirectoryNode::settled(Arc::clone(&directory.visible)));
                }
            }
        }
    }

    /// The nodes that some crash could leave a name for.
    pub(super) fn within_reach(&self) -> BTreeSet<Id> {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(id) = todo.pop() {
            if let Node::Directory(directory) = self.node(id) {
                let pending = directory.pending.iter().filter_map(|pending| pending.change.to);
                todo.extend(directory.durable.values().copied().chain(pending).filter(|id| reached.insert(*id)));
            }
        }
        reached
    }
}
