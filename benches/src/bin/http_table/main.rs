//! The HTTP table: layerhold beside Debian's `docker-registry`, the same work on the same machine in the same run.
//!
//! Both servers run as child processes on loopback with their data on the same file system. For each row the two take
//! turns, round by round, and the median of the rounds counts; between two measurements the kernel's dirty pages are
//! written out, so that neither pays for the other's. The client is one process with blocking sockets and one thread for
//! each connection, because its cost comes out of the same cores: it does not check the bytes that it receives, which the
//! server's tests do.

#![expect(clippy::indexing_slicing, reason = "a bench that stops at a broken answer has done its duty")]
#![expect(clippy::disallowed_methods, reason = "a bench measures the time that passes")]

mod client;
mod content;
mod peers;
mod rows;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::peers::Peer;
use crate::table::{Measured, Table};

/// Measures layerhold beside docker-registry over HTTP
#[derive(Debug, Parser)]
struct Options {
    /// The program `layerhold`, optimised
    #[arg(long, value_name = "FILE")]
    layerhold: PathBuf,
    /// Debian's registry
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/docker-registry")]
    docker_registry: PathBuf,
    /// Where both keep their data for the time of the run [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Rounds of each row; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Size of the large layer
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    layer_mib: usize,
    /// Length of each measurement of small requests
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    seconds: u64,
    /// Connections of small requests
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Fail where layerhold is slower than the floor of a row
    #[arg(long)]
    strict: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("http_table: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn run(options: &Options) -> Result<bool> {
    let dir = tempfile::Builder::new()
        .prefix("layerhold-http-table-")
        .tempdir_in(options.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let peers = [
        Peer::docker_registry(&options.docker_registry, &dir.path().join("distribution"))?,
        Peer::layerhold(&options.layerhold, &dir.path().join("layerhold"))?,
    ];
    let work = rows::Work {
        layer_bytes: options.layer_mib << 20,
        period: Duration::from_secs(options.seconds),
        clients: options.clients,
    };
    let mut table = Table::default();
    for row in rows::ALL {
        if options.only.as_ref().is_some_and(|only| !row.name.contains(only.as_str())) {
            continue;
        }
        let mut figures: [Vec<f64>; 2] = Default::default();
        for round in 0..options.rounds {
            for (peer, figures) in peers.iter().zip(&mut figures) {
                write_out_dirty_pages();
                eprint!("\r{:<44} round {} of {}, {:<14}", row.name, round + 1, options.rounds, peer.name);
                figures.push((row.measure)(peer, &work, round)?);
            }
        }
        eprint!("\r{:80}\r", "");
        let [distribution, layerhold] = figures.map(table::median);
        table.add(Measured { row, distribution, layerhold });
    }
    println!("{table}");
    let memory: Vec<String> =
        peers.iter().map(|peer| format!("{} {:.0} MB", peer.name, peer.peak_memory_mb())).collect();
    println!("peak resident memory: {}", memory.join(", "));
    Ok(!options.strict || table.floors_hold())
}

/// What one measurement wrote must not be written out in the time of the next.
fn write_out_dirty_pages() {
    let _ = std::process::Command::new("sync").status();
}
