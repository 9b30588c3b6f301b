//! The server's end of the socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use layerhold::Engine;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Line, Request, socket, work};

/// A request is one short line.
const REQUEST_BYTES_MAX: u64 = 4_096;

/// A client that does not send, or does not read, for so long is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// A socket that is served; gone when the value is dropped.
pub struct Control {
    dir: PathBuf,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    engine: Engine,
    stop: AtomicBool,
    /// Held while a request is carried out.
    busy: Mutex<()>,
}

impl Control {
    /// Serves the socket of the data directory `dir`, which holds `engine`'s store, on threads of `runtime`.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn start(runtime: &Runtime, engine: Engine, dir: &Path) -> io::Result<Control> {
        let listener = socket::listen(dir)?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::UnixListener::from_std(listener)?
        };
        let shared = Arc::new(Shared { engine, stop: AtomicBool::new(false), busy: Mutex::new(()) });
        let answering = Arc::clone(&shared);
        let accepting = runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&answering);
                        tokio::task::spawn_blocking(move || shared.answer(stream.into_std()));
                    }
                    Err(error) => {
                        tracing::warn!(cause = %error, "a connection to the control socket was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Control { dir: dir.to_owned(), shared, accepting })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.accepting.abort();
        socket::remove(&self.dir);
    }
}

impl Shared {
    fn answer(&self, stream: io::Result<UnixStream>) {
        let Ok(stream) = stream else { return };
        match self.serve(&stream) {
            Ok(()) => {}
            Err(error) => tracing::debug!(cause = %error, "a connection to the control socket ended early"),
        }
    }

    fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if !socket::is_owner(stream)? {
            return send(stream, &Line::Failed { cause: "only the owner of the server may ask".to_owned() });
        }
        let mut request = String::new();
        BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut request)?;
        let request: Request = match serde_json::from_str(&request) {
            Ok(request) => request,
            Err(error) => {
                let cause = format!("the request cannot be read: {error}");
                return send(stream, &Line::Failed { cause });
            }
        };
        let Some(_busy) = self.busy.try_lock() else {
            let cause = "another check or repair is under way; try again when it is done".to_owned();
            return send(stream, &Line::Failed { cause });
        };
        tracing::info!(request = ?request, "asked over the control socket");
        work::carry_out(&self.engine, request, &self.stop, &mut |line| match send(stream, line) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        Ok(())
    }
}

fn send(mut stream: &UnixStream, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stream.write_all(&text)
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("dir", &self.dir).finish_non_exhaustive()
    }
}
