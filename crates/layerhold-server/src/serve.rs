//! `layerhold serve`: from a configuration to a running server, and from a signal to a closed store.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use layerhold::store::real::ignore_file_size_signal;
use layerhold::{Engine, Options, ScrubProgress, Scrubbed};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::config::{Config, ConfigError};
use crate::connection::Patience;
use crate::control::serve::Control;
use crate::download::Downloads;
use crate::host::Wanted;
use crate::listen::{self, Limits, Listener};
use crate::store::{self, Found, StoreError};

/// How often the engine gets to do its bounded background work.
const MAINTENANCE: Duration = Duration::from_secs(1);

/// Why a server does not start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory gives no store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("cannot listen address={address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Threads, timers or signals cannot be set up.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    /// The engine refused the registries, or could not be closed.
    #[error("the engine failed")]
    Engine(#[from] layerhold::Failure),
}

/// Serves until SIGTERM or SIGINT; the store is closed when it returns.
///
/// Standard output gets one line for each listener, `listening on http://127.0.0.1:5000`, once requests are answered, and
/// before them a line if a store was made.
///
/// # Errors
/// [`ServeError`].
pub fn run(config: &Config) -> Result<(), ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("layerhold-http").max_blocking_threads(config.blocking_threads);
    if let Some(workers) = config.worker_threads {
        builder.worker_threads(workers);
    }
    let runtime = builder.build().map_err(ServeError::Runtime)?;

    // A file that may grow no further is an answer to one request and no reason to end.
    ignore_file_size_signal().map_err(ServeError::Runtime)?;
    // The port first: a server that cannot have it must not make a store.
    let (main, main_address) = bind(&runtime, config.listen, Wanted::Private)?;
    let mut listeners = vec![main];
    let mut public_address = None;
    if let Some(address) = config.public_listen {
        let (listener, address) = bind(&runtime, address, Wanted::Public)?;
        listeners.push(listener);
        public_address = Some(address);
    }
    let registries = config.registries(main_address, public_address)?;

    let options = options(config);
    let (engine, found) = if config.read_only {
        (store::open_read_only(&config.data, options)?, Found::Existing)
    } else {
        store::open_or_create(&config.data, options)?
    };
    if found == Found::Created {
        say(format_args!("created a new store data={}", config.data.display()));
    }
    for warning in engine.warnings() {
        tracing::warn!(data = %config.data.display(), "unsuitable medium: {warning}");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let downloads = Downloads::new(runtime.metrics().num_workers().min(cores));
    let app = Arc::new(App::new(engine.clone(), config, registries, downloads)?);
    // A server without its socket serves all the same: only the operator's commands have to wait until it is stopped. One that
    // only reads has nothing in its directory, and looks after nothing.
    let control = || Control::start(&runtime, engine.clone(), &config.data);
    let control = (!config.read_only).then(control).and_then(|started| {
        started.inspect_err(|error| tracing::warn!(cause = %error, "the control socket cannot be made")).ok()
    });
    let maintenance = (!config.read_only).then(|| maintain(engine.clone()));
    let maintenance = maintenance.transpose().map_err(ServeError::Runtime)?;

    let limits = Limits {
        patience: Patience { header: config.header_timeout, idle: config.idle_timeout },
        connections_max: config.connections_max,
        drain: config.shutdown_timeout,
    };
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        say(format_args!("listening on http://{main_address}"));
        if let Some(address) = public_address {
            say(format_args!("listening on http://{address} for the public registry"));
        }
        tracing::info!(data = %config.data.display(), listen = %main_address, sequence = engine.sequence(), "serving");
        listen::serve(app, listeners, limits, stop).await;
        Ok(())
    });

    drop(control);
    // Calls that are still running hold bytes that clients sent: they get the drain time again to be written down.
    runtime.shutdown_timeout(config.shutdown_timeout);
    if let Some((stop, thread)) = maintenance {
        drop(stop);
        let _ = thread.join();
    }
    engine.close()?;
    tracing::info!("the store is closed");
    served.map_err(ServeError::Runtime)
}

/// What the engine is told.
fn options(config: &Config) -> Options {
    let window_ms = u64::try_from(config.verified_window.as_millis()).unwrap_or(u64::MAX);
    Options::default()
        .with_memory_bytes(config.memory_bytes)
        .with_verified_window_ms(window_ms)
        .with_scrub_bytes_per_s(config.scrub_bytes_per_s)
        .with_free_bytes_min(config.free_bytes_min)
        .with_ballast_bytes(config.ballast_bytes)
        .with_read_back(config.read_back)
        .with_any_medium(config.any_medium)
}

fn bind(runtime: &Runtime, address: SocketAddr, default: Wanted) -> Result<(Listener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let socket = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
    let real = socket.local_addr().map_err(failed)?;
    Ok((Listener { socket, default }, real))
}

/// One line for whoever started the server. That nobody reads it is no reason to stop.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What the scrub found, and how far it came whenever it has been everywhere.
fn report(engine: &Engine, scrubbed: &Scrubbed) {
    for finding in &scrubbed.findings {
        tracing::error!(%finding, "the scrub found damage");
    }
    if scrubbed.pass_completed
        && let Ok(progress) = engine.scrub_progress()
    {
        let ScrubProgress { pass, bytes, blobs, manifests, findings, .. } = progress;
        tracing::info!(pass, bytes, blobs, manifests, findings, "the scrub has looked at everything");
    }
}

/// The engine's background work, on a thread of its own until the sender is dropped.
fn maintain(engine: Engine) -> std::io::Result<(mpsc::Sender<()>, std::thread::JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let work = move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(MAINTENANCE) {
            match engine.maintain() {
                Ok(done) => report(&engine, &done.scrubbed),
                Err(failure) => tracing::error!(cause = %crate::chain(&failure), "background work failed"),
            }
        }
    };
    let thread = std::thread::Builder::new().name("layerhold-maintenance".to_owned()).spawn(work)?;
    Ok((stop, thread))
}
