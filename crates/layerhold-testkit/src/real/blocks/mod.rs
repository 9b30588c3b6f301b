//! Power cuts below a real file system: the block writes of a workload, cut off and taken apart.
//!
//! A child mounts a file system of the kernel's on a loop device whose file is a disk of its own (FUSE), which remembers
//! writes and flushes. An engine on RocksDB works there, and after each acknowledgement it is noted how many events the disk
//! had seen. Then other disks are made: all that was flushed before a cut, and of what was written after the last flush
//! none, all, some, or some of it torn. Each is mounted, so that the file system recovers, and the store on it is opened and
//! held against what was acknowledged before the cut. A disk that the file system itself refuses is no state: it is counted
//! apart, and only if the file system as it was made still mounts there and then.

mod disk;
mod fuse;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::engine::{rocks, rocks_left};
use crate::fs::Rng;
use crate::operation::{ExpectedDigest, Operation, Script, pool};
use crate::runner::shorten;
use crate::technique::Outcome;

use super::child::{self, say};
use super::loops::Loop;
use super::story::Story;
use super::{Place, own_mounts, sys};
use disk::{BLOCK, Contents, Disk, Event};
use fuse::Mounted;

/// The count of disks on which a store was opened and held against its story.
pub const CHECKED: &str = "states checked";

/// The count of disks that the file system itself refuses.
pub const REFUSED: &str = "disks that the file system does not mount";

/// A file system and how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The technique's name.
    pub technique: &'static str,
    /// What the kernel calls it.
    file_system: &'static str,
    options: &'static str,
    /// The program that makes one, with its arguments.
    make: &'static [&'static str],
    len: u64,
    /// The least that a write is torn at: less than the file system itself assumes would show its faults, not ours.
    torn_at: usize,
}

/// All file systems that are cut.
pub const KINDS: [Kind; 4] = [
    Kind {
        technique: "blocks-ext4-ordered",
        file_system: "ext4",
        options: "data=ordered",
        make: &["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0"],
        len: 64 << 20,
        torn_at: 512,
    },
    Kind {
        technique: "blocks-ext4-writeback",
        file_system: "ext4",
        options: "data=writeback",
        make: &["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0"],
        len: 64 << 20,
        torn_at: 512,
    },
    Kind {
        technique: "blocks-xfs",
        file_system: "xfs",
        options: "",
        make: &["mkfs.xfs", "-q", "-f"],
        len: 320 << 20,
        torn_at: 512,
    },
    Kind {
        technique: "blocks-btrfs",
        file_system: "btrfs",
        options: "",
        make: &["mkfs.btrfs", "-q", "-f"],
        len: 256 << 20,
        torn_at: BLOCK,
    },
];

/// What a child is made to do without, to show that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Nothing.
    Nothing,
    /// Directories are not synced.
    NoDirectorySync,
    /// Files are not synced.
    NoFileSync,
    /// No disk is mounted once the workload is recorded.
    NoMounts,
}

impl Planted {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::NoDirectorySync => "no-directory-sync",
            Self::NoFileSync => "no-file-sync",
            Self::NoMounts => "no-mounts",
        }
    }
}

impl Kind {
    /// The one with this name.
    pub fn of(technique: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.technique == technique)
    }

    /// What this machine lacks for it, if anything.
    pub fn missing(&self) -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("root".to_owned());
        }
        let devices = ["/dev/fuse", "/dev/loop-control"];
        if let Some(device) = devices.iter().find(|device| OpenOptions::new().read(true).open(device).is_err()) {
            return Some((*device).to_owned());
        }
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let knows = |name: &str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
        if let Some(name) = ["fuse", self.file_system].into_iter().find(|name| !knows(name)) {
            return Some(format!("{name} in the kernel"));
        }
        let program = self.make.first().copied().unwrap_or_default();
        let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.err().map(|_| program.to_owned())
    }

    /// A new file system, as a disk's contents.
    fn fresh(&self, scratch: &Path) -> Result<Contents, String> {
        let image = scratch.join("image");
        let file = File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(self.len).map_err(|e| e.to_string())?;
        let (program, arguments) = self.make.split_first().ok_or("no program")?;
        let made = Command::new(program).args(arguments).arg(&image).stdout(Stdio::null()).output();
        let made = made.map_err(|e| format!("{program}: {e}"))?;
        if !made.status.success() {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let contents = File::open(&image).and_then(Contents::of).map_err(|e| e.to_string());
        std::fs::remove_file(&image).map_err(|e| e.to_string())?;
        contents
    }
}

/// Records one workload and opens `count` of the disks that power cuts in it leave. The seed decides the workload and the
/// cuts; when the kernel writes what, it decides itself.
///
/// # Errors
/// Where no child could be started, or the machine does not let it work.
pub fn cut(place: &Place, kind: Kind, seed: u64, count: u64, planted: Planted) -> Result<Outcome, String> {
    let directory = place.directory().map_err(|e| e.to_string())?;
    let arguments = [kind.technique, &seed.to_string(), &count.to_string(), planted.name()];
    let mut started = child::start(place, &arguments, &directory.path).map_err(|e| e.to_string())?;
    let mut outcome = Outcome::default();
    for line in started.lines.by_ref() {
        let line = line.map_err(|e| e.to_string())?;
        let (what, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match what {
            "state" => {
                outcome.states.push(rest.parse().map_err(|_| line.clone())?);
                outcome.count(CHECKED, 1);
            }
            "count" => outcome.count(rest, 1),
            "violation" => outcome.violation(rest.replace('\t', "\n")),
            _ => return Err(rest.replace('\t', "\n")),
        }
    }
    let status = started.end().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("the child ended by itself status={status}"));
    }
    Ok(outcome)
}

/// The child's life.
pub(super) fn live(kind: Kind, seed: u64, count: u64, planted: &str, directory: &Path) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    // Mounts of this process's own end with it, however it ends.
    own_mounts().map_err(|e| format!("no mounts of its own error={e}"))?;
    let (disks, at) = (directory.join("disks"), directory.join("mounted"));
    std::fs::create_dir(&disks).and_then(|()| std::fs::create_dir(&at)).map_err(text)?;
    let fresh = kind.fresh(directory)?;
    let mounted = Mounted::at(&disks).map_err(text)?;
    let mut bench = Bench { kind, mounted, at, fresh: fresh.clone() };
    let recorded = bench.record(seed, planted)?;
    if planted == Planted::NoMounts.name() {
        bench.kind.options = "no-such-option";
    }
    let mut cuts = recorded.draw(seed, count);
    cuts.sort_by_key(|cut| cut.at);
    let mut durable = (fresh, 0);
    for (number, cut) in (0..).zip(cuts) {
        let (contents, flushed) = &mut durable;
        while *flushed < cut.flushed {
            if let Some(Event::Write { offset, bytes }) = recorded.events.get(*flushed) {
                contents.write(*offset, bytes);
            }
            *flushed += 1;
        }
        let mut contents = contents.clone();
        let how = cut.apply(&recorded.events, &mut contents, kind.torn_at);
        bench.check(contents, &recorded, &cut, number, how)?;
    }
    Ok(())
}

/// What was recorded.
struct Recorded {
    story: Story,
    events: Vec<Event>,
    /// How many events there were when so many requests were acknowledged.
    acknowledged_at: Vec<usize>,
}

/// A power cut.
struct Cut {
    /// Events before it.
    at: usize,
    /// Events up to the last flush before it.
    flushed: usize,
    seed: u64,
}

/// Where disks are mounted.
struct Bench {
    kind: Kind,
    mounted: Mounted,
    at: PathBuf,
    /// The file system as it was made.
    fresh: Contents,
}

/// Why a disk is not mounted.
enum NotMounted {
    /// The file system refuses what is on it.
    Refused(rustix::io::Errno),
    /// Anything else, which says nothing of the disk.
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for NotMounted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl std::fmt::Display for NotMounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(errno) => write!(f, "{errno}"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl Bench {
    fn record(&self, seed: u64, planted: &str) -> Result<Recorded, String> {
        let disk = Arc::new(Disk::new(self.kind.len, self.fresh.clone(), true));
        self.mount(&disk).map_err(|e| format!("a new file system does not mount error={e}"))?;
        let script = script(seed);
        let store = self.at.join("store");
        let run = || {
            let pretended = match planted {
                "no-directory-sync" => sys::pretend(sys::Sync::Directories),
                "no-file-sync" => sys::pretend(sys::Sync::Files),
                _ => Ok(()),
            };
            pretended.map_err(|e| format!("syncs cannot be left out error={e}"))?;
            let mut acknowledged_at = Vec::new();
            let told = Story::tell_watched(rocks(&store), &script, |_| acknowledged_at.push(disk.events()));
            let (story, test) = told.map_err(|wrong| wrong.report)?;
            // What comes after the last acknowledgement is another story.
            let mut events = disk.take_events();
            events.truncate(acknowledged_at.last().copied().unwrap_or(0));
            drop(test);
            Ok::<_, String>(Recorded { story, events, acknowledged_at })
        };
        // In a thread of its own: what it pretends, its threads alone believe.
        let recorded = std::thread::scope(|scope| scope.spawn(run).join()).map_err(|_| "the workload panicked")??;
        self.unmount().map_err(|e| e.to_string())?;
        self.mounted.forget();
        Ok(recorded)
    }

    fn check(&self, contents: Contents, recorded: &Recorded, cut: &Cut, number: u64, how: &str) -> Result<(), String> {
        let state = contents.hash();
        let disk = Arc::new(Disk::new(self.kind.len, contents, false));
        match self.mount(&disk) {
            Ok(()) => {}
            // The file system's own loss, which no store on it can make good. It is told, not hidden.
            Err(NotMounted::Refused(errno)) => {
                self.prove_that_it_mounts().map_err(|e| format!("nothing mounts any more, {errno} before: {e}"))?;
                say(&format!("count {REFUSED}"));
                say(&format!("count not mounted: {errno}"));
                return Ok(());
            }
            Err(NotMounted::Failed(error)) => return Err(format!("a disk cannot be mounted error={error}")),
        }
        // The first entry is from before the first request.
        let acknowledged = recorded.acknowledged_at.iter().filter(|at| **at <= cut.at).count().saturating_sub(1);
        let story = &recorded.story;
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let test = rocks_left(&self.at.join("store"), story.wall_ms(acknowledged), number);
            let test = test.map_err(|error| format!("acknowledged={acknowledged}, does not open: {error:?}"))?;
            story.check(&test, acknowledged)
        }));
        let checked = checked.unwrap_or_else(|panic| Err(crate::campaign::panic_text(&*panic)));
        match checked {
            Ok(whole) => {
                say(if whole { "count states with the request that was cut" } else { "count states without it" })
            }
            Err(wrong) => {
                let Cut { at, flushed, seed } = cut;
                let wrong = format!("cut at event {at}, flushed up to {flushed}, {how}, seed {seed}: {wrong}");
                say(&format!("violation {}", shorten(&wrong).replace('\n', "\t")));
            }
        }
        say(&format!("count {how}"));
        say(&format!("state {state}"));
        self.unmount().map_err(|e| e.to_string())?;
        self.mounted.forget();
        Ok(())
    }

    /// Mounts the file system as it was made, which is whole.
    fn prove_that_it_mounts(&self) -> Result<(), String> {
        let disk = Arc::new(Disk::new(self.kind.len, self.fresh.clone(), false));
        self.mount(&disk).map_err(|e| e.to_string())?;
        self.unmount().map_err(|e| e.to_string())?;
        self.mounted.forget();
        Ok(())
    }

    /// Mounts the disk through a loop device that goes when the mount does.
    fn mount(&self, disk: &Arc<Disk>) -> Result<(), NotMounted> {
        use rustix::io::Errno;
        let file = self.mounted.show(Arc::clone(disk))?;
        let device = Loop::of(&file)?;
        let options = std::ffi::CString::new(self.kind.options).map_err(io::Error::other)?;
        let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV;
        let mounted = mount(&device.path, &self.at, self.kind.file_system, flags, Some(options.as_c_str()));
        // While it is mounted this only says that the device is to let go with the mount.
        device.detach()?;
        mounted.map_err(|errno| match errno {
            Errno::UCLEAN | Errno::INVAL | Errno::IO | Errno::BADMSG => NotMounted::Refused(errno),
            errno => NotMounted::Failed(errno.into()),
        })
    }

    /// Waits for background threads that still have a file open.
    fn unmount(&self) -> io::Result<()> {
        for _ in 0..200 {
            match unmount(&self.at, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(5)),
                ended => return Ok(ended?),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

impl Recorded {
    /// Cuts of this recording, a quarter of them right behind an acknowledgement, where a lost one shows.
    fn draw(&self, seed: u64, count: u64) -> Vec<Cut> {
        let mut rng = Rng::new(seed ^ 0x00c0_ffee);
        let first = self.acknowledged_at.first().copied().unwrap_or(0);
        let mut place = || {
            let at = if rng.below(4) == 0 {
                let acknowledged = usize::try_from(rng.below(self.acknowledged_at.len() as u64)).unwrap_or(0);
                self.acknowledged_at.get(acknowledged).copied().unwrap_or(first)
            } else {
                first + usize::try_from(rng.below((self.events.len() - first).max(1) as u64)).unwrap_or(0)
            };
            let before = self.events.get(..at).unwrap_or_default();
            let flushed = before.iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |last| last + 1);
            Cut { at, flushed, seed: rng.next() }
        };
        let cut = |_| {
            // Where nothing was written since the flush there is one state alone.
            let mut cut = place();
            for _ in 0..8 {
                if cut.at > cut.flushed {
                    break;
                }
                cut = place();
            }
            cut
        };
        (0..count).map(cut).collect()
    }
}

impl Cut {
    /// Adds to what was flushed a part of what was written since, and says which.
    fn apply(&self, events: &[Event], contents: &mut Contents, torn_at: usize) -> &'static str {
        let mut rng = Rng::new(self.seed);
        let since = events.get(self.flushed..self.at).unwrap_or_default();
        let mut write = |event: &Event, len: usize| {
            if let Event::Write { offset, bytes } = event {
                contents.write(*offset, bytes.get(..len).unwrap_or(bytes));
            }
        };
        let torn = |rng: &mut Rng, event: &Event| match event {
            Event::Write { bytes, .. } => {
                torn_at * usize::try_from(rng.below((bytes.len() / torn_at).max(1) as u64)).unwrap_or(0)
            }
            Event::Flush => 0,
        };
        let one = rng.below(since.len().max(1) as u64);
        match rng.below(8) {
            _ if since.is_empty() => "states with nothing behind the last flush",
            0 => "states of nothing since the flush",
            1 => {
                since.iter().for_each(|event| write(event, usize::MAX));
                "states of everything since the flush"
            }
            2 => {
                (0..).zip(since).filter(|(number, _)| *number != one).for_each(|(_, event)| write(event, usize::MAX));
                "states without one write"
            }
            3 => {
                (0..).zip(since).filter(|(number, _)| *number == one).for_each(|(_, event)| write(event, usize::MAX));
                "states with one write"
            }
            4 | 5 => {
                for event in since {
                    if rng.below(2) == 0 {
                        write(event, usize::MAX);
                    }
                }
                "states of some writes"
            }
            6 => {
                for (number, event) in (0..=one).zip(since) {
                    let len = if number == one { torn(&mut rng, event) } else { usize::MAX };
                    write(event, len);
                }
                "states of writes up to a torn one"
            }
            _ => {
                for event in since {
                    match rng.below(3) {
                        0 => {}
                        1 => write(event, usize::MAX),
                        _ => write(event, torn(&mut rng, event)),
                    }
                }
                "states of some writes, some torn"
            }
        }
    }
}

/// Pushes of both kinds of blobs and everything else; in the middle so many small ones that the journal's segment changes
/// twice with no other file being synced, which would make new names durable on the way.
fn script(seed: u64) -> Script {
    let mut rng = Rng::new(seed);
    let number = |rng: &mut Rng, below: u8| u8::try_from(rng.below(below.into())).unwrap_or(0);
    let mut operations = vec![
        Operation::CreateRepository { repository: 0, mutability: 0, sparse: false },
        Operation::CreateRepository { repository: 1, mutability: 2, sparse: true },
    ];
    while operations.len() < 200 {
        let operation = match rng.below(5) {
            // It may have been deleted; where it was not, this is refused.
            _ if [40, 161].contains(&operations.len()) => {
                Operation::CreateRepository { repository: 0, mutability: 0, sparse: false }
            }
            _ if (40..161).contains(&operations.len()) => {
                Operation::PutBlob { repository: 0, content: 4, expected: ExpectedDigest::Right }
            }
            0 => Operation::PutBlob {
                repository: number(&mut rng, 2),
                content: number(&mut rng, pool::CONTENT_COUNT),
                expected: ExpectedDigest::Right,
            },
            1 => Operation::PushImage { repository: 0, document: number(&mut rng, 12), tag: Some(number(&mut rng, 6)) },
            _ => Operation::from_bytes(&pool::noise(rng.next(), 32)),
        };
        match operation {
            Operation::AdvanceClock { .. } | Operation::GrantDownload { .. } | Operation::OpenDownload { .. } => {}
            Operation::Reopen { .. } => operations.push(Operation::Reopen { close: true }),
            // Pull times may be lost, so none is made.
            Operation::GetManifest { repository, image, .. } => {
                operations.push(Operation::GetManifest { repository, image, pull: false });
            }
            operation => operations.push(operation),
        }
    }
    Script { small_limits: false, operations }
}
