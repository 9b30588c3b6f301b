//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use layerhold::recovery::Agreed;

use crate::command::{Output, Task};
use crate::config::Settings;
use crate::control::{Depth, Request};
use crate::{command, log, serve, store};

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
    /// Prove that a store is sound: every row and file is what the format says
    ///
    /// Works on a store that a server has open as well: it is asked over the socket control.sock in the data directory, which
    /// only its owner may use. Exit code: 0 where nothing is wrong or lost (leftovers of a crash may be listed), 1 where
    /// something is, 2 where it could not be done or was stopped.
    Check {
        /// How deep to look
        #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
        level: Depth,
        /// Say it in lines of JSON
        #[arg(long)]
        json: bool,
        /// Directory of the store
        #[arg(env = "LAYERHOLD_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Mend what other rows or the bytes of files prove, and say what is left and why
    ///
    /// Each mend is one change in the change log. It can be stopped and run again. Works through a running server as check
    /// does, with the same exit codes: 1 where something wrong or lost is left.
    Repair {
        /// How deep to look
        #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
        level: Depth,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Say it in lines of JSON
        #[arg(long)]
        json: bool,
        /// Directory of the store
        #[arg(env = "LAYERHOLD_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Read everything once, quarantine what is damaged, and compute damaged chaining values again
    ///
    /// What a server does by itself about once a week. Works through a running server as check does; exit codes as there.
    Scrub {
        /// Say it in lines of JSON
        #[arg(long)]
        json: bool,
        /// Directory of the store
        #[arg(env = "LAYERHOLD_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Bring a store back that does not open, where a second copy proves that nothing is lost
    ///
    /// Exit code: 0 where the store opens now, 2 where this is not possible; check says what is.
    Restore {
        /// Say it in lines of JSON
        #[arg(long)]
        json: bool,
        /// Directory of the store; nobody may have it open
        #[arg(env = "LAYERHOLD_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Go on with what is left of a store that does not open
    ///
    /// What is lost has to be named as check named it, so that nobody agrees to more than they saw. Exit codes as restore.
    AcceptLoss {
        /// The sequence up to which everything was acknowledged; left out where nothing says
        #[arg(long, value_name = "N")]
        expected: Option<u64>,
        /// The sequence up to which everything can be brought back
        #[arg(long, value_name = "M")]
        recovered: u64,
        /// Say it in lines of JSON
        #[arg(long)]
        json: bool,
        /// Directory of the store; nobody may have it open
        #[arg(env = "LAYERHOLD_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Print the version
    Version,
}

/// Runs the program: 0 where it did what was asked, 1 where it could not, 2 where the command line was wrong. The verbs of
/// [`command`] have codes of their own.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Serve { config, settings } => serve_with(config, *settings),
        Verb::Inspect { data } => inspect(&data),
        Verb::Check { level, json, data } => return ask(&data, Request::Check { level }, json),
        Verb::Repair { level, dry_run, json, data } => return ask(&data, Request::Repair { level, dry_run }, json),
        Verb::Scrub { json, data } => return ask(&data, Request::Scrub, json),
        Verb::Restore { json, data } => return command::run(&data, Task::Restore, output(json)),
        Verb::AcceptLoss { expected, recovered, json, data } => {
            let task = Task::AcceptLoss(Agreed { expected, recovered });
            return command::run(&data, task, output(json));
        }
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

fn ask(data: &std::path::Path, request: Request, json: bool) -> ExitCode {
    command::run(data, Task::Ask(request), output(json))
}

fn output(json: bool) -> Output {
    if json { Output::Json } else { Output::Human }
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
    let engine = store::open(data, store::anywhere())?;
    let summary = crate::inspect::summarise(&engine)?;
    engine.close()?;
    print(&summary)
}

fn print(text: &str) -> Outcome {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
