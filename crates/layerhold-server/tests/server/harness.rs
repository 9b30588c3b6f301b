//! A server as a child process over a store in a temporary directory.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;

/// A running `layerhold serve`; killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) public: SocketAddr,
    /// What it said on standard output before it listened.
    pub(crate) said: Vec<String>,
    log: PathBuf,
}

/// `layerhold` with none of the caller's environment.
pub(crate) fn layerhold(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerhold"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs `layerhold` to its end; its exit code, standard output and standard error.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = layerhold(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

impl Server {
    /// Serves the store below `dir`, on ports that the system chooses.
    pub(crate) fn start(dir: &TempDir, arguments: &[&str]) -> Server {
        let mut command =
            layerhold(&["serve", "--listen=127.0.0.1:0", "--public-listen=127.0.0.1:0", "--log-level=debug", "--data"]);
        command.arg(data(dir)).args(arguments);
        Server::of(command, dir)
    }

    /// A server by a command of the caller's, which has two listeners.
    pub(crate) fn of(mut command: Command, dir: &TempDir) -> Server {
        let log = dir.path().join("log");
        let log_file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut process = command.stdout(Stdio::piped()).stderr(log_file).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let mut listening = || loop {
            let Some(line) = lines.next() else {
                panic!("the server ended: {}", std::fs::read_to_string(&log).unwrap_or_default())
            };
            let line = line.unwrap();
            match line.strip_prefix("listening on http://") {
                Some(rest) => break rest.split(' ').next().unwrap().parse().unwrap(),
                None => said.push(line),
            }
        };
        let (address, public) = (listening(), listening());
        Server { process, address, public, said, log }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn public_client(&self) -> Client {
        Client::connect(self.public)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// As a power switch would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn ask_to_stop(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn stop(mut self) {
        self.ask_to_stop();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The path in a URL of a server that may have had another port.
pub(crate) fn path_of(url: &str) -> String {
    let rest = url.split("://").nth(1).unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

/// Where the store of a test lies.
pub(crate) fn data(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

/// The files below `dir`, by size.
pub(crate) fn files(dir: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((metadata.len(), entry.path()));
        }
    }
    found.sort();
    found
}

/// Waits until `done` says so.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what} never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads until the server closes; how many bytes came.
pub(crate) fn read_to_close(client: &mut Client) -> usize {
    let mut rest = Vec::new();
    let _ = client.socket.read_to_end(&mut rest);
    rest.len()
}
