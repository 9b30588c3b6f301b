//! The servers under measurement, as child processes.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::client::Client;

/// A running server. It is killed when this is dropped.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Peer {
    /// Debian's registry with its own defaults, its access log off.
    pub(crate) fn docker_registry(program: &Path, data: &Path) -> Result<Peer> {
        let address = free_address()?;
        std::fs::create_dir_all(data)?;
        let config = data.with_extension("yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  cache:\n    \
                 blobdescriptor: inmemory\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  \
                 addr: {address}\n",
                data.display()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        Peer::start("distribution", address, command, data)
    }

    /// layerhold with its own defaults.
    pub(crate) fn layerhold(program: &Path, data: &Path) -> Result<Peer> {
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["serve", "--log-level", "warn", "--listen", &address.to_string(), "--data"]).arg(data);
        Peer::start("layerhold", address, command, data)
    }

    fn start(name: &'static str, address: SocketAddr, mut command: Command, data: &Path) -> Result<Peer> {
        // Into a file, because distribution logs every 404 of a push as an error.
        let log = std::fs::File::create(data.with_extension("log"))?;
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut peer = Peer { name, address, process };
        for _ in 0..500 {
            if let Some(status) = peer.process.try_wait()? {
                return Err(format!("{name} ended at once: {status}").into());
            }
            if let Ok(mut client) = Client::connect(address)
                && client.call("GET", "/v2/", "", b"").is_ok_and(|answer| answer.status == 200)
            {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{name} does not answer on {address}").into())
    }

    /// The most memory that the process ever had resident, in megabytes.
    pub(crate) fn peak_memory_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or_default() / 1000.0
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A loopback address that nobody listens on at this moment.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
