//! Stopping a command: what is under way ends at the next safe place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Sets `stop` at the first SIGINT or SIGTERM. A second one ends the process.
///
/// # Errors
/// Where signals cannot be waited for.
pub(super) fn watch(stop: Arc<AtomicBool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            for stopped in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stopped {
                    std::process::exit(i32::from(super::NOT_DONE));
                }
                stop.store(true, Ordering::Relaxed);
            }
        });
    };
    std::thread::Builder::new().name("layerhold-signals".to_owned()).spawn(wait).map(drop)
}
