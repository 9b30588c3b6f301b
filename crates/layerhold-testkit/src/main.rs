//! Runs the techniques of the test kit: `list`, `run`, `report`.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};

use clap::{Args, Parser, Subcommand};

use layerhold_testkit::technique::report::{Row, merged};
use layerhold_testkit::technique::run::{Job, run, run_one};
use layerhold_testkit::technique::{Budget, Shard, Technique, Unit};
use layerhold_testkit::techniques;

/// Looks for violations of what the engine promises.
///
/// A technique is a numbered sequence of units that follow from the seed; see docs/testing.md.
#[derive(Debug, Parser)]
#[command(name = "layerhold-testkit")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Names every technique.
    List,
    /// Runs units of a technique; ends with 1 where something is wrong.
    Run(Run),
    /// Puts the reports, or state files, of a run's shards together into a row of docs/testing.md.
    Report(Report),
    /// A process that a technique started.
    #[command(hide = true)]
    Child {
        /// The technique.
        name: String,
        /// What it said.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// The technique, as `list` names it; `all` runs every one, one after the other.
    technique: String,
    /// What everything follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When to stop: 500 (units), 90s, 30m, 2h, 2000000states (distinct, of this shard), all, brief. What the state file remembers counts too.
    #[arg(long, default_value = "brief")]
    budget: Budget,
    /// Which part of the units, of how many: 1/2.
    #[arg(long, default_value_t = Shard::WHOLE)]
    shard: Shard,
    /// Runs this one unit and tells what it came to.
    #[arg(long, conflicts_with_all = ["budget", "shard", "state", "report"])]
    unit: Option<u64>,
    /// Remembers here what is done, and goes on from what it finds.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Writes the report here at the end.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Stops after the first unit that finds something.
    #[arg(long)]
    until_violation: bool,
    /// Where units may keep files while they run.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// What to write down as the commit; by default the checkout's, if this program is younger.
    #[arg(long)]
    commit: Option<String>,
}

#[derive(Debug, Args)]
struct Report {
    /// Reports or state files of one technique.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also tells the counts that the row leaves out.
    #[arg(long)]
    details: bool,
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().verb {
        Verb::List => {
            techniques::all().iter().for_each(|technique| println!("{:16} {}", technique.name(), technique.about()));
            Ok(0)
        }
        Verb::Run(arguments) => run_verb(&arguments),
        Verb::Report(arguments) => report(&arguments),
        Verb::Child { name, arguments } => find(&name).map(|technique| technique.child(&arguments)),
    };
    match ended {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("layerhold-testkit: {error}");
            ExitCode::from(2)
        }
    }
}

fn find(name: &str) -> Result<&'static dyn Technique, String> {
    let found = techniques::all().iter().find(|technique| technique.name() == name);
    found.copied().ok_or_else(|| format!("no such technique, see `list` name={name}"))
}

fn run_verb(arguments: &Run) -> Result<i32, String> {
    if arguments.technique == "all" {
        if arguments.state.is_some() || arguments.report.is_some() || arguments.unit.is_some() {
            return Err("--state, --report and --unit are of one technique: name it".to_owned());
        }
        let mut worst = 0;
        for technique in techniques::all() {
            worst = worst.max(run_technique(*technique, arguments)?);
        }
        return Ok(worst);
    }
    run_technique(find(&arguments.technique)?, arguments)
}

fn run_technique(technique: &'static dyn Technique, arguments: &Run) -> Result<i32, String> {
    let scratch = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    if let Some(number) = arguments.unit {
        let outcome = run_one(technique, &Unit::new(arguments.seed, number, &scratch));
        outcome.counts.iter().for_each(|(name, count)| println!("{name} {count}"));
        outcome.violations.iter().for_each(|what| println!("VIOLATION: {what}"));
        return Ok(i32::from(!outcome.violations.is_empty()));
    }
    let command: Vec<String> = std::env::args().skip(1).collect();
    let job = Job {
        seed: arguments.seed,
        budget: arguments.budget,
        shard: arguments.shard,
        state: arguments.state.clone(),
        scratch,
        commit: arguments.commit.clone().unwrap_or_else(commit),
        command: without_files(&command),
        progress: true,
        until_violation: arguments.until_violation,
    };
    let record = run(technique, &job).map_err(|error| format!("{}: {error}", technique.name()))?;
    if let Some(path) = &arguments.report {
        record.export(path).map_err(|error| format!("{error} path={}", path.display()))?;
    }
    let whole = record.finished && arguments.shard == Shard::WHOLE;
    let gaps = if whole { technique.gaps(&record) } else { Vec::new() };
    Ok(tell(&Row { gaps, ..Row::from(record) }, false))
}

fn report(arguments: &Report) -> Result<i32, String> {
    let row = merged(&arguments.files, techniques::all()).map_err(|error| error.to_string())?;
    Ok(tell(&row, arguments.details))
}

fn tell(row: &Row, details: bool) -> i32 {
    println!("{row}");
    if details {
        row.counts.iter().filter(|(name, _)| name.contains(':')).for_each(|(name, count)| println!("{name} {count}"));
    }
    for violation in &row.found {
        println!("VIOLATION: {}\n  again with: {}", violation.what, violation.replay);
    }
    row.gaps.iter().for_each(|gap| println!("GAP: {gap}"));
    i32::from(row.violations > 0 || !row.gaps.is_empty())
}

/// The command line without the names of files, which are true on one machine only.
fn without_files(arguments: &[String]) -> String {
    let mut kept = vec!["layerhold-testkit".to_owned()];
    let mut skip = false;
    for argument in arguments {
        let files = ["--state", "--report", "--scratch", "--commit"];
        if !skip && !files.iter().any(|option| argument.starts_with(option)) {
            kept.push(argument.clone());
        }
        skip = !skip && files.contains(&argument.as_str());
    }
    kept.join(" ")
}

/// The commit of the checkout that this program was built from, if the program is younger; `-dirty` where files differ.
fn commit() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Process::new("git").arg("-C").arg(source).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let built = std::env::current_exe().and_then(|exe| exe.metadata()?.modified());
    let built_s = built.ok().and_then(|time| Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()));
    let committed_s = git(&["log", "-1", "--format=%ct", "--", ".."]).and_then(|text| text.parse::<u64>().ok());
    match (git(&["rev-parse", "--short", "HEAD"]), git(&["status", "--porcelain", "--untracked-files=no", ".."])) {
        (Some(_), _) if built_s < committed_s => "before the checkout's".to_owned(),
        (Some(commit), Some(changed)) if changed.is_empty() => commit,
        (Some(commit), _) => commit + "-dirty",
        _ => "unknown".to_owned(),
    }
}
