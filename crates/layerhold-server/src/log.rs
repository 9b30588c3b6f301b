//! Log lines: structured, on standard error, never with a secret in them.
//!
//! Standard output carries nothing but the lines that say where the server listens, so that a harness can read them.
//! What identifies a request is its id; download tokens are left out of paths because whoever holds one may read.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, LogFormat};

/// Makes log lines appear on standard error, in `format`, of `level` and above.
///
/// # Errors
/// [`ConfigError::Invalid`] for a level that is none.
pub fn start(format: LogFormat, level: &str) -> Result<(), ConfigError> {
    // The library takes a lone word that is no level for a target's name, and would then be silent about a misspelling.
    let spelled = level.split(',').all(|part| part.contains('=') || part.parse::<LevelFilter>().is_ok());
    let filter = level.parse::<Targets>().ok().filter(|_| spelled).ok_or_else(|| ConfigError::Invalid {
        setting: "log-level",
        rule: "a level is error, warn, info, debug, trace or off, or a list like info,layerhold_server=debug",
        value: level.to_owned(),
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A second start, as tests of one process may do, keeps the first one's settings.
    let _ = match format {
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::force_capture();
        tracing::error!(cause = %panic, %trace, "a request or a background task ended in a fault of this program");
    }));
    Ok(())
}

/// A request's path as a log line may show it.
#[must_use]
pub fn loggable_path(path: &str) -> &str {
    if path.starts_with(crate::app::DOWNLOAD_PREFIX) { "/download/(token)" } else { path }
}
