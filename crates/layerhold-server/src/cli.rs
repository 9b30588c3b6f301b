//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use layerhold::Options;

use crate::config::Settings;
use crate::{log, serve, store};

/// A container registry over one transactional store
#[derive(Debug, Parser)]
#[command(name = "layerhold", disable_version_flag = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve the ECR operations and OCI distribution over one store
    ///
    /// Every setting may be given as a flag, in the environment (LAYERHOLD_LISTEN for --listen) or in the file (listen =
    /// "..."); a flag wins over the environment, the environment over the file, the file over the default.
    Serve {
        /// A TOML file with further settings, named as the flags are
        #[arg(long, env = "LAYERHOLD_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Count what a store holds
    Inspect {
        /// Directory of the store; no server may have it open
        #[arg(long, env = "LAYERHOLD_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Print the version
    Version,
}

/// Runs the program: 0 where it did what was asked, 1 where it could not, 2 where the command line was wrong.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Serve { config, settings } => serve_with(config, *settings),
        Verb::Inspect { data } => inspect(&data),
        Verb::Version => print(concat!("layerhold ", env!("CARGO_PKG_VERSION"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("layerhold: {}", crate::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn serve_with(file: Option<PathBuf>, given: Settings) -> Outcome {
    let settings = match file {
        Some(file) => given.or(Settings::from_file(&file)?),
        None => given,
    };
    let config = settings.resolve()?;
    log::start(config.log_format, &config.log_level)?;
    Ok(serve::run(&config)?)
}

fn inspect(data: &std::path::Path) -> Outcome {
    let engine = store::open(data, Options::default())?;
    let summary = crate::inspect::summarise(&engine)?;
    engine.close()?;
    print(&summary)
}

fn print(text: &str) -> Outcome {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
