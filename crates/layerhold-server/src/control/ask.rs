//! The client's end of the socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::work::Say;
use super::{Line, Request};

/// How long the server may say nothing before it is looked whether the caller still wants to know.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks the server behind `stream`, and says every line that it answers. Once `stop` is set the connection is closed, which
/// stops the server's work.
///
/// # Errors
/// Where the connection ends before the answer does, or says what is no line.
pub fn ask(stream: &UnixStream, request: Request, stop: &AtomicBool, say: Say<'_>) -> io::Result<()> {
    let mut text = serde_json::to_vec(&request)?;
    text.push(b'\n');
    (&*stream).write_all(&text)?;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let mut answers = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match answers.read_until(b'\n', &mut line) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if !line.ends_with(b"\n") => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // What came of a line stays in it.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let said: Line = serde_json::from_slice(&line)?;
        line.clear();
        if say(&said).is_break() || said.is_last() {
            return Ok(());
        }
    }
}
