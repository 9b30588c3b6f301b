//! The commands that look at a store and mend it: offline, or through the server that has it open.

mod interrupt;
mod screen;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use layerhold::recovery::{self, Agreed, RecoveryError};
use layerhold::{Engine, StorageError};

use crate::control::work::Say;
use crate::control::{Line, Request, ask, socket, work};
use crate::store::{self, StoreError};

use screen::Screen;

/// Nothing is wrong or lost, or nothing any more; there may be leftovers.
pub const SOUND: u8 = 0;
/// Something that is wrong or lost was found, or is left.
pub const FOUND: u8 = 1;
/// It could not be done, or not to its end, so that nothing is said of the rest.
pub const NOT_DONE: u8 = 2;

/// How a command says what it has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people; with a bar on a terminal.
    Human,
    /// Lines of JSON ([`Line`]).
    Json,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// What a running server does as well.
    Ask(Request),
    /// Bring everything back from a second copy.
    Restore,
    /// Go on with what can be brought back.
    AcceptLoss(Agreed),
}

/// Carries `task` out on the store in `data` and says on standard output what comes of it.
#[must_use]
pub fn run(data: &Path, task: Task, output: Output) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = interrupt::watch(Arc::clone(&stop)) {
        return failed(&error);
    }
    let mut code = NOT_DONE;
    let mut refused = false;
    let mut broken = None;
    let mut screen = Screen::new();
    let mut say = |line: &Line| {
        refused |= matches!(line, Line::Refused { .. });
        code = match line {
            Line::Recovered { .. } => SOUND,
            Line::Refused { .. } => FOUND,
            Line::Done { stopped: true, .. } => NOT_DONE,
            Line::Done { sound, .. } => {
                if *sound && !refused {
                    SOUND
                } else {
                    FOUND
                }
            }
            Line::Progress { .. } | Line::Finding { .. } | Line::Failed { .. } => NOT_DONE,
        };
        let said = match output {
            Output::Human => screen.say(line),
            Output::Json => json(line),
        };
        match said {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let done = carry_out(data, task, &stop, &mut say);
    screen.end();
    match (broken, done) {
        // Whoever read the output has seen enough.
        (Some(error), _) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(NOT_DONE),
        (Some(error), _) => failed(&error),
        (None, Err(_)) if stop.load(Ordering::Relaxed) => {
            eprintln!("layerhold: stopped");
            ExitCode::from(NOT_DONE)
        }
        (None, Err(error)) => failed(error.as_ref()),
        (None, Ok(())) => ExitCode::from(code),
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn carry_out(data: &Path, task: Task, stop: &AtomicBool, say: Say<'_>) -> Outcome {
    let by = work::operator().principal;
    let recovered = match task {
        Task::Ask(request) => return look(data, request, stop, say),
        Task::Restore => recovery::restore(data, &store::anywhere(), &by),
        Task::AcceptLoss(agreed) => recovery::accept_loss(data, &store::anywhere(), &by, agreed),
    };
    match recovered {
        Ok(recovered) => {
            let _ = say(&Line::recovered(&recovered));
            Ok(())
        }
        Err(error) => {
            if let RecoveryError::NotPossible { examination } | RecoveryError::Changed { examination } = &error {
                let _ = say(&Line::refused(examination));
            }
            Err(error.into())
        }
    }
}

/// Looks at a store, and mends it if asked to: offline, or through the server that has it open.
fn look(data: &Path, request: Request, stop: &AtomicBool, say: Say<'_>) -> Outcome {
    let only_reads = matches!(request, Request::Check { .. } | Request::Repair { dry_run: true, .. });
    let opened = if only_reads { open_for_reads(data, say) } else { store::open(data, store::anywhere()).map(Some) };
    let engine = match opened {
        Ok(Some(engine)) => engine,
        Ok(None) => return Ok(()),
        Err(StoreError::Refused { path, source: source @ StorageError::Locked { .. } }) => {
            // Whoever has it open answers, if it is a server.
            return match socket::connect(data) {
                Ok(stream) => Ok(ask::ask(&stream, request, stop, say)?),
                Err(_) => Err(StoreError::Refused { path, source }.into()),
            };
        }
        Err(error) => return Err(error.into()),
    };
    work::carry_out(&engine, request, stop, say);
    Ok(engine.close()?)
}

/// Opens a store without changing it. Of one that does not open it is said why and what can be done, and what can be read
/// of it is opened.
fn open_for_reads(data: &Path, say: Say<'_>) -> Result<Option<Engine>, StoreError> {
    let refused = |source| StoreError::Refused { path: data.to_owned(), source };
    let examination = recovery::examine(data, &store::anywhere()).map_err(refused)?;
    if !examination.is_sound() && (say(&Line::refused(&examination)).is_break() || !examination.readable) {
        return Ok(None);
    }
    store::open_read_only(data, store::anywhere()).map(Some)
}

fn json(line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("layerhold: {}", crate::chain(error));
    ExitCode::from(NOT_DONE)
}
