//! What the child processes do, and how a parent hears of it.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Place, blocks, damage, failing, generations, kill_points, mounts};

/// Does what the arguments say, the first of which names the technique. What goes wrong is told on the standard output, as
/// everything is.
pub(crate) fn run(name: &str, arguments: &[String]) -> i32 {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match (name, arguments.as_slice()) {
        ("kill-points", [workload, "setup", store]) => kill_points::live(workload, "setup", false, Path::new(store)),
        ("kill-points", [workload, at, manner, store]) => {
            kill_points::live(workload, at, *manner == "lying", Path::new(store))
        }
        ("kill-generations", [orders, store]) => generations::work(Path::new(orders), Path::new(store)),
        ("damage-rocks", [seed, from, until, manner, directory]) => match (seed.parse(), from.parse(), until.parse()) {
            (Ok(seed), Ok(from), Ok(until)) => {
                damage::live(seed, from, until, *manner == "lying", Path::new(directory))
            }
            _ => Err("no number".to_owned()),
        },
        ("failing-syscalls", [workload, fault @ .., store]) => failing::live(workload, fault, Path::new(store)),
        ("mounts", [case, directory]) => mounts::live(case, Path::new(directory)),
        (name, [seed, count, planted, directory]) if blocks::Kind::of(name).is_some() => {
            match (blocks::Kind::of(name), seed.parse(), count.parse()) {
                (Some(kind), Ok(seed), Ok(count)) => blocks::live(kind, seed, count, planted, Path::new(directory)),
                _ => Err("no number".to_owned()),
            }
        }
        _ => Err(format!("a child is not called so name={name} arguments={arguments:?}")),
    };
    match done {
        Ok(()) => 0,
        Err(what) => {
            say(&format!("wrong {}", what.replace('\n', "\t")));
            1
        }
    }
}

/// Tells the parent one line. When this returns the line survives this process.
pub(super) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // A parent that is gone will not kill anybody either.
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::abort();
    }
}

/// Ends this process as a kill from outside does.
pub(super) fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

/// A running child and what it says.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: Child,
    pub(super) lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Started {
    /// Kills the child when so much time has passed.
    pub(super) fn kill_after(&self, delay: Duration) -> Result<(), String> {
        let process = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        // A descriptor, because a number may be another process's by then.
        let process =
            rustix::process::pidfd_open(process.ok_or("no process id")?, rustix::process::PidfdFlags::empty())
                .map_err(|e| e.to_string())?;
        let kill = move || {
            std::thread::sleep(delay);
            // One that is gone by itself is no error.
            let _ = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
        };
        std::thread::Builder::new().name("kill".to_owned()).spawn(kill).map(drop).map_err(|e| e.to_string())
    }

    /// Kills the child if it still lives, and tells how it ended.
    pub(super) fn end(&mut self) -> io::Result<ExitStatus> {
        if self.process.try_wait()?.is_none() && self.lines.by_ref().next().is_some() {
            self.process.kill()?;
        }
        self.process.wait()
    }
}

/// Whether a process was killed, and did not end by itself.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL)
}

/// Starts a child with these arguments.
pub(super) fn start(place: &Place, arguments: &[&str], directory: &Path) -> io::Result<Started> {
    let mut command = Command::new(&place.program);
    command.arg("child").args(arguments).arg(directory);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let out = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Started { process, lines: BufReader::new(out).lines() })
}
