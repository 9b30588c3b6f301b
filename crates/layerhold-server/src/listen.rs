//! Sockets: accepting connections, speaking HTTP/1.1 on them, and letting go of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::app::{App, Origin};
use crate::connection::{Patience, Watched, Watcher};
use crate::host::Wanted;

/// Longest request line with headers. Names, digests, tags and tokens together stay far below.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Most headers of a request.
const HEADERS_MAX: usize = 100;

/// What the HTTP library may hold of a connection in each direction: two of our chunks, so that one is sent while the
/// next is read.
const CONNECTION_BUFFER_BYTES: usize = 256 << 10;

/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How connections are treated.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest waits.
    pub patience: Patience,
    /// Connections at once.
    pub connections_max: usize,
    /// How long a shutdown waits for running requests.
    pub drain: Duration,
}

/// A socket that connections arrive at, and the registry it serves by default.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What a request without a telling Host means.
    pub default: Wanted,
}

/// Serves until `stop` is done, then drains: no new connection, no further request on those that are open, and whatever
/// still runs after the drain time is cut off.
pub async fn serve(app: Arc<App>, listeners: Vec<Listener>, limits: Limits, stop: impl Future<Output = ()>) {
    let watcher = Watcher::new(limits.patience);
    let watching = tokio::spawn(watcher.clone().run());
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let (stopping, stopped) = watch::channel(false);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let accept = Accept {
                app: Arc::clone(&app),
                slots: Arc::clone(&slots),
                watcher: watcher.clone(),
                stop: stopped.clone(),
            };
            tokio::spawn(accept.run(listener))
        })
        .collect();

    stop.await;
    tracing::info!("shutting down, waiting for running requests");
    // Nobody is left to hear it only where every connection is gone already.
    let _ = stopping.send(true);
    for task in accepting {
        let _ = task.await;
    }
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.drain, slots.acquire_many(all)).await.is_err() {
        tracing::warn!("cutting off requests that did not end in time");
        watcher.end_all();
        let _ = tokio::time::timeout(Duration::from_secs(5), slots.acquire_many(all)).await;
    }
    watching.abort();
}

struct Accept {
    app: Arc<App>,
    slots: Arc<Semaphore>,
    watcher: Watcher,
    stop: watch::Receiver<bool>,
}

impl Accept {
    async fn run(mut self, listener: Listener) {
        loop {
            // The slot comes first: beyond the limit, clients wait in the kernel's queue and cost nothing here.
            let next = async {
                let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
                loop {
                    match listener.socket.accept().await {
                        Ok((socket, peer)) => return Some((slot, socket, peer)),
                        Err(error) => {
                            tracing::warn!(cause = %error, "cannot accept a connection");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            };
            let (slot, socket, peer) = tokio::select! {
                _ = self.stop.changed() => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            self.start(slot, socket, peer, listener.default);
        }
    }

    fn start(&self, slot: OwnedSemaphorePermit, socket: TcpStream, peer: SocketAddr, default: Wanted) {
        // Small answers must not wait for the acknowledgement of the ones before them.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(cause = %error, "a connection ended before it began");
            return;
        }
        let pulse = self.watcher.pulse();
        let origin = Origin { pulse: Arc::clone(&pulse), peer, default };
        let io = Watched::new(socket, Arc::clone(&pulse));
        let app = Arc::clone(&self.app);
        let mut stop = self.stop.clone();
        let task = tokio::spawn(async move {
            let _slot = slot;
            let service =
                service_fn(move |request: Request<Incoming>| Arc::clone(&app).handle(request, origin.clone()));
            let mut connection = std::pin::pin!(http().serve_connection(io, service));
            let ended = tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                _ = stop.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, cause = %crate::chain(&error), "a connection broke");
            }
        });
        self.watcher.watch(pulse, task.abort_handle());
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // The watcher keeps this limit, and those that the library has none for, without a timer for each request.
        .header_read_timeout(None)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .half_close(false);
    // Setting the count makes the library allocate headers for each request; its default is the same.
    const { assert!(HEADERS_MAX == 100) };
    http
}
