//! The commands that look at a store and mend it: offline, or through the server that has it open.

mod interrupt;
mod screen;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use layerhold::{Options, StorageError};

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

/// Carries `request` out on the store in `data` and says on standard output what comes of it.
#[must_use]
pub fn run(data: &Path, request: Request, output: Output) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = interrupt::watch(Arc::clone(&stop)) {
        return failed(&error);
    }
    let mut code = NOT_DONE;
    let mut broken = None;
    let mut screen = Screen::new();
    let mut say = |line: &Line| {
        if let Line::Done { sound, stopped, .. } = line {
            code = match (stopped, sound) {
                (true, _) => NOT_DONE,
                (false, true) => SOUND,
                (false, false) => FOUND,
            };
        }
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
    let done = carry_out(data, request, &stop, &mut say);
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

fn carry_out(data: &Path, request: Request, stop: &AtomicBool, say: Say<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let engine = match store::open(data, Options::default()) {
        Ok(engine) => engine,
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
