//! Configuration: what an operator may set, from where, and which source wins.
//!
//! One precedence for every setting: **flag, then environment, then file, then default**. A setting has one name in
//! three spellings: `--public-listen`, `LAYERHOLD_PUBLIC_LISTEN`, and `public-listen` in the file. The three sources
//! fill one struct of optional values, [`Settings`]; [`Settings::resolve`] turns them into a [`Config`] in which nothing
//! is optional any more and every rule between settings has been judged.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use layerhold::options::ReadBack;
use layerhold_ecr::registry::{self, ExternalUrl, RegistryConfig};
use serde::Deserialize;

/// A number of bytes, written as `268435456`, `256MiB`, `1GiB` or `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "TextOrNumber")]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            _ => return Err(format!("the unit is none of B, KiB, MiB and GiB, value={text}")),
        };
        let number: u64 = digits.trim().parse().map_err(|_| format!("not a number of bytes, value={text}"))?;
        number.checked_mul(factor).map(ByteSize).ok_or_else(|| format!("the size does not fit 64 bits, value={text}"))
    }
}

/// A length of time, written as `30s`, `500ms`, `5m` or a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "TextOrNumber")]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seconds, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit_ms: u64 = match text.get(digits.len()..).unwrap_or_default() {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(format!("the unit is none of ms, s, m and h, value={text}")),
        };
        let number: u64 = digits.trim().parse().map_err(|_| format!("not a length of time, value={text}"))?;
        let ms = number.checked_mul(unit_ms).ok_or_else(|| format!("the time is too long, value={text}"))?;
        Ok(Seconds(Duration::from_millis(ms)))
    }
}

/// How a size or a time may stand in the file: quoted with a unit, or a bare number.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(u64),
}

impl TextOrNumber {
    fn text(self) -> String {
        match self {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(number) => number.to_string(),
        }
    }
}

impl TryFrom<TextOrNumber> for ByteSize {
    type Error = String;

    fn try_from(value: TextOrNumber) -> Result<ByteSize, String> {
        value.text().parse()
    }
}

impl TryFrom<TextOrNumber> for Seconds {
    type Error = String;

    fn try_from(value: TextOrNumber) -> Result<Seconds, String> {
        value.text().parse()
    }
}

/// When a push over `/v2/` makes the repository that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreateOnPush {
    /// Every first push creates its repository.
    Always,
    /// Only where a creation template says so. There are no templates yet, so this acts as `never`.
    Templates,
    /// A repository has to be created beforehand.
    Never,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of words and `key=value` pairs.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings of `layerhold serve` as one source gives them: absent means "not said here".
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Directory of the store; made where it is absent or empty
    #[arg(long, env = "LAYERHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Address to serve both protocols on [default: 127.0.0.1:5000]
    #[arg(long, env = "LAYERHOLD_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// A second address, where a request without a telling Host means the public registry
    #[arg(long, env = "LAYERHOLD_PUBLIC_LISTEN", value_name = "ADDR")]
    pub public_listen: Option<SocketAddr>,

    /// The account that owns both registries, 12 digits [default: 000000000000]
    #[arg(long, env = "LAYERHOLD_ACCOUNT", value_name = "DIGITS")]
    pub account: Option<String>,

    /// The Region of the private registry [default: us-east-1]
    #[arg(long, env = "LAYERHOLD_REGION", value_name = "REGION")]
    pub region: Option<String>,

    /// The alias of the public registry: its repositories are named ALIAS/NAME [default: local]
    #[arg(long, env = "LAYERHOLD_PUBLIC_ALIAS", value_name = "ALIAS")]
    pub public_alias: Option<String>,

    /// How clients reach --listen: goes into repository URIs and download URLs [default: http:// and the address of --listen]
    #[arg(long, env = "LAYERHOLD_EXTERNAL_URL", value_name = "URL")]
    pub external_url: Option<String>,

    /// The same for the public registry [default: http:// and the address of --public-listen, else as --external-url]
    #[arg(long, env = "LAYERHOLD_PUBLIC_EXTERNAL_URL", value_name = "URL")]
    pub public_external_url: Option<String>,

    /// Whether a push over /v2/ creates the repository it names [default: always]
    #[arg(long, env = "LAYERHOLD_CREATE_ON_PUSH", value_enum, value_name = "WHEN")]
    pub create_on_push: Option<CreateOnPush>,

    /// Listen beyond loopback although nothing checks who asks
    #[arg(long, env = "LAYERHOLD_ALLOW_UNAUTHENTICATED", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub allow_unauthenticated: Option<bool>,

    /// Memory of the engine: caches, write buffers, uploads [default: 512MiB]
    #[arg(long, env = "LAYERHOLD_MEMORY", value_name = "BYTES")]
    pub memory: Option<ByteSize>,

    /// Send blobs unchecked for this long after all their bytes were verified: faster, and damage of that time reaches
    /// clients [default: 0s]
    #[arg(long, env = "LAYERHOLD_VERIFIED_WINDOW", value_name = "TIME")]
    pub verified_window: Option<Seconds>,

    /// Mebibytes a second that are read in the background to find damage before a client does; 0 reads none [default: 16]
    #[arg(long, env = "LAYERHOLD_SCRUB_MIB_PER_S", value_name = "COUNT")]
    pub scrub_mib_per_s: Option<u32>,

    /// With less room than this on the medium pushes are refused, while deletions and reads go on; 0 refuses none
    /// [default: 64MiB]
    #[arg(long, env = "LAYERHOLD_FREE_MIN", value_name = "BYTES")]
    pub free_min: Option<ByteSize>,

    /// Length of a file that is given up when the medium is nearly full; 0 for none [default: 64MiB]
    #[arg(long, env = "LAYERHOLD_BALLAST", value_name = "BYTES")]
    pub ballast: Option<ByteSize>,

    /// Read each upload back from the medium before it becomes a blob
    #[arg(long, env = "LAYERHOLD_READ_BACK", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub read_back: Option<bool>,

    /// Keep the store even where the medium cannot keep what it is given: on a network file system, or without locks
    #[arg(long, env = "LAYERHOLD_ANY_MEDIUM", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub any_medium: Option<bool>,

    /// Serve reads alone and change nothing: also what can be proved of a store that does not open
    #[arg(long, env = "LAYERHOLD_READ_ONLY", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub read_only: Option<bool>,

    /// Memory of request bodies and answers that are held whole; beyond it clients are told to slow down [default: 256MiB]
    #[arg(long, env = "LAYERHOLD_BODY_MEMORY", value_name = "BYTES")]
    pub body_memory: Option<ByteSize>,

    /// Connections served at once; further ones wait to be accepted [default: 1024]
    #[arg(long, env = "LAYERHOLD_CONNECTIONS_MAX", value_name = "COUNT")]
    pub connections_max: Option<usize>,

    /// Threads for calls that wait for the disk [default: 64]
    #[arg(long, env = "LAYERHOLD_BLOCKING_THREADS", value_name = "COUNT")]
    pub blocking_threads: Option<usize>,

    /// Threads that serve sockets [default: one for each core]
    #[arg(long, env = "LAYERHOLD_WORKER_THREADS", value_name = "COUNT")]
    pub worker_threads: Option<usize>,

    /// Longest time from the first byte of a request to the end of its headers [default: 10s]
    #[arg(long, env = "LAYERHOLD_HEADER_TIMEOUT", value_name = "TIME")]
    pub header_timeout: Option<Seconds>,

    /// Longest time that a body or a response may stand still, and a connection may idle [default: 60s]
    #[arg(long, env = "LAYERHOLD_IDLE_TIMEOUT", value_name = "TIME")]
    pub idle_timeout: Option<Seconds>,

    /// Fewest bytes a second that a request body must bring, judged over each idle timeout; 0 asks nothing [default: 1KiB]
    #[arg(long, env = "LAYERHOLD_BODY_RATE_MIN", value_name = "BYTES")]
    pub body_rate_min: Option<ByteSize>,

    /// Longest time that running requests get to end at a shutdown [default: 30s]
    #[arg(long, env = "LAYERHOLD_SHUTDOWN_TIMEOUT", value_name = "TIME")]
    pub shutdown_timeout: Option<Seconds>,

    /// How log lines look [default: text]
    #[arg(long, env = "LAYERHOLD_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// error, warn, info, debug, trace, or a list like info,layerhold_server=debug; reads are logged at debug [default: info]
    #[arg(long, env = "LAYERHOLD_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file path={}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or holds an unknown setting or a value of the wrong type.
    #[error("the configuration file is not valid path={}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting without a default was given by no source.
    #[error(
        "a required setting is missing setting={setting}, give it as --{setting}, in the environment or in the file"
    )]
    Missing {
        /// Its name.
        setting: &'static str,
    },
    /// A value breaks its setting's rule.
    #[error("{rule} setting={setting} value={value}")]
    Invalid {
        /// The setting's name.
        setting: &'static str,
        /// The rule, as a sentence without a full stop.
        rule: &'static str,
        /// What was given.
        value: String,
    },
    /// An account, a Region, an alias or a URL breaks its grammar.
    #[error(transparent)]
    Registry(#[from] registry::ConfigError),
    /// Nothing checks who asks yet, so only this machine may ask.
    #[error(
        "refusing to listen beyond loopback without authentication, because anybody who reaches the port could push and \
         delete; listen on 127.0.0.1 or [::1], or give --allow-unauthenticated to do it all the same address={address}"
    )]
    Unauthenticated {
        /// The address that was asked for.
        address: SocketAddr,
    },
}

/// A complete, judged configuration of `layerhold serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the store.
    pub data: PathBuf,
    /// Where both protocols are served; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The listener whose default is the public registry.
    pub public_listen: Option<SocketAddr>,
    /// 12 digits.
    pub account: String,
    /// The private registry's Region.
    pub region: String,
    /// First component of a public repository's name.
    pub public_alias: String,
    /// `http://host:port` or `https://…`, without a path; absent: made from the listen address.
    pub external_url: Option<ExternalUrl>,
    /// The same for the public registry.
    pub public_external_url: Option<ExternalUrl>,
    /// Whether a push makes its repository.
    pub create_on_push: CreateOnPush,
    /// The engine's share of memory, in bytes.
    pub memory_bytes: u64,
    /// For how long after a full verification blobs are sent unchecked.
    pub verified_window: Duration,
    /// Bytes a second that the scrub may read; 0 for no scrub.
    pub scrub_bytes_per_s: u64,
    /// Free bytes below which pushes are refused; 0 for none.
    pub free_bytes_min: u64,
    /// Bytes that are given up when the medium is nearly full; 0 for none.
    pub ballast_bytes: u64,
    /// Whether uploads are read back before they become blobs.
    pub read_back: ReadBack,
    /// Whether the store may be on a medium that cannot keep what it is given.
    pub any_medium: bool,
    /// Whether nothing is changed.
    pub read_only: bool,
    /// Bytes of request bodies and answers held whole at any moment.
    pub body_memory_bytes: u64,
    /// Connections served at once.
    pub connections_max: usize,
    /// Threads for blocking calls.
    pub blocking_threads: usize,
    /// Threads that serve sockets; absent: one for each core.
    pub worker_threads: Option<usize>,
    /// From a request's first byte to the end of its headers.
    pub header_timeout: Duration,
    /// Longest standstill of a body, a response or an idle connection.
    pub idle_timeout: Duration,
    /// Fewest bytes a second of a request body, 0 for none.
    pub body_rate_min: u64,
    /// How long a shutdown waits for running requests.
    pub shutdown_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_level: String,
}

impl Config {
    /// What the two registries are called and where clients reach them, the listeners' real addresses being known.
    ///
    /// # Errors
    /// None that [`Settings::resolve`] did not give already.
    pub fn registries(&self, listen: SocketAddr, public: Option<SocketAddr>) -> Result<RegistryConfig, ConfigError> {
        let at = |address: SocketAddr| ExternalUrl::parse(&format!("http://{address}"));
        let private_url = self.external_url.clone().map_or_else(|| at(listen), Ok)?;
        let public_url = match (&self.public_external_url, public) {
            (Some(url), _) => url.clone(),
            (None, Some(address)) => at(address)?,
            (None, None) => private_url.clone(),
        };
        Ok(RegistryConfig::new(&self.account, &self.region, &self.public_alias, private_url, public_url)?)
    }
}

impl Settings {
    /// The settings that a file gives.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] and [`ConfigError::Malformed`]; an unknown setting is malformed, so that a misspelt one
    /// is not silently without effect.
    pub fn from_file(path: &Path) -> Result<Settings, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })
    }

    /// These settings, with `lower` filling what they leave open.
    #[must_use]
    pub fn or(self, lower: Settings) -> Settings {
        Settings {
            data: self.data.or(lower.data),
            listen: self.listen.or(lower.listen),
            public_listen: self.public_listen.or(lower.public_listen),
            account: self.account.or(lower.account),
            region: self.region.or(lower.region),
            public_alias: self.public_alias.or(lower.public_alias),
            external_url: self.external_url.or(lower.external_url),
            public_external_url: self.public_external_url.or(lower.public_external_url),
            create_on_push: self.create_on_push.or(lower.create_on_push),
            allow_unauthenticated: self.allow_unauthenticated.or(lower.allow_unauthenticated),
            memory: self.memory.or(lower.memory),
            verified_window: self.verified_window.or(lower.verified_window),
            scrub_mib_per_s: self.scrub_mib_per_s.or(lower.scrub_mib_per_s),
            free_min: self.free_min.or(lower.free_min),
            ballast: self.ballast.or(lower.ballast),
            read_back: self.read_back.or(lower.read_back),
            any_medium: self.any_medium.or(lower.any_medium),
            read_only: self.read_only.or(lower.read_only),
            body_memory: self.body_memory.or(lower.body_memory),
            connections_max: self.connections_max.or(lower.connections_max),
            blocking_threads: self.blocking_threads.or(lower.blocking_threads),
            worker_threads: self.worker_threads.or(lower.worker_threads),
            header_timeout: self.header_timeout.or(lower.header_timeout),
            idle_timeout: self.idle_timeout.or(lower.idle_timeout),
            body_rate_min: self.body_rate_min.or(lower.body_rate_min),
            shutdown_timeout: self.shutdown_timeout.or(lower.shutdown_timeout),
            log_format: self.log_format.or(lower.log_format),
            log_level: self.log_level.or(lower.log_level),
        }
    }

    /// The configuration that these settings and the defaults make.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], [`ConfigError::Invalid`], and [`ConfigError::Unauthenticated`] for an address that is not
    /// loopback.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let data = self.data.ok_or(ConfigError::Missing { setting: "data" })?;
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5000)));
        for address in std::iter::once(listen).chain(self.public_listen) {
            if !address.ip().is_loopback() && self.allow_unauthenticated != Some(true) {
                return Err(ConfigError::Unauthenticated { address });
            }
        }

        let account = self.account.unwrap_or_else(|| "000000000000".to_owned());
        let region = self.region.unwrap_or_else(|| "us-east-1".to_owned());
        let public_alias = self.public_alias.unwrap_or_else(|| "local".to_owned());
        let external_url = self.external_url.as_deref().map(ExternalUrl::parse).transpose()?;
        let public_external_url = self.public_external_url.as_deref().map(ExternalUrl::parse).transpose()?;
        // Judged here, before a store is made; the URLs take part once the listeners have their ports.
        let nowhere = || ExternalUrl::parse("http://127.0.0.1");
        RegistryConfig::new(&account, &region, &public_alias, nowhere()?, nowhere()?)?;

        Ok(Config {
            data,
            listen,
            public_listen: self.public_listen,
            account,
            region,
            public_alias,
            external_url,
            public_external_url,
            create_on_push: self.create_on_push.unwrap_or(CreateOnPush::Always),
            memory_bytes: at_least("memory", self.memory, 512 << 20, 16 << 20)?,
            verified_window: self.verified_window.map_or(Duration::ZERO, |s| s.0),
            scrub_bytes_per_s: u64::from(self.scrub_mib_per_s.unwrap_or(SCRUB_MIB_PER_S)) << 20,
            free_bytes_min: self.free_min.map_or(FREE_BYTES_MIN, |b| b.0),
            ballast_bytes: self.ballast.map_or(BALLAST_BYTES, |b| b.0),
            read_back: if self.read_back == Some(true) { ReadBack::BeforeCommit } else { ReadBack::Never },
            any_medium: self.any_medium == Some(true),
            read_only: self.read_only == Some(true),
            body_memory_bytes: at_least("body-memory", self.body_memory, 256 << 20, BODY_MEMORY_BYTES_MIN)?,
            connections_max: self.connections_max.unwrap_or(1024).clamp(1, 1 << 20),
            blocking_threads: self.blocking_threads.unwrap_or(64).clamp(2, 4096),
            worker_threads: self.worker_threads.map(|n| n.clamp(1, 1024)),
            header_timeout: self.header_timeout.map_or(Duration::from_secs(10), |s| s.0),
            idle_timeout: self.idle_timeout.map_or(Duration::from_secs(60), |s| s.0),
            body_rate_min: self.body_rate_min.map_or(BODY_RATE_MIN, |b| b.0),
            shutdown_timeout: self.shutdown_timeout.map_or(Duration::from_secs(30), |s| s.0),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// Reads 9 TiB a week, the time in which the engine means to look at everything, and is a tenth of what a single hard
/// disk reads in a row and a two-hundredth of a core's hashing: what clients wait for hardly notices.
const SCRUB_MIB_PER_S: u32 = 16;

/// Both as the engine has them by itself.
const FREE_BYTES_MIN: u64 = 64 << 20;
const BALLAST_BYTES: u64 = 64 << 20;

/// One whole part of an ECR upload has to fit, or no such upload could ever succeed: 20 MiB in base64, with room for
/// escaping and the other members.
const BODY_MEMORY_BYTES_MIN: u64 = 32 << 20;

/// A modem brings more. Without a least rate a client that sends one byte a minute holds its session, and its share of the
/// memory for bodies, for as long as it likes.
const BODY_RATE_MIN: u64 = 1 << 10;

fn invalid(setting: &'static str, rule: &'static str, value: String) -> ConfigError {
    ConfigError::Invalid { setting, rule, value }
}

fn at_least(setting: &'static str, given: Option<ByteSize>, default: u64, least: u64) -> Result<u64, ConfigError> {
    match given {
        None => Ok(default),
        Some(ByteSize(bytes)) if bytes >= least => Ok(bytes),
        Some(ByteSize(bytes)) => {
            Err(invalid(setting, "the least is 16MiB for memory and 32MiB for body-memory", bytes.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Settings {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn the_higher_source_wins_setting_by_setting() {
        let flags = settings("region = 'eu-west-1'");
        let file = settings("data = '/d'\nregion = 'us-west-2'\naccount = '123456789012'");
        let config = flags.or(file).resolve().unwrap();
        assert_eq!(config.region, "eu-west-1");
        assert_eq!(config.account, "123456789012");
        assert_eq!(config.public_alias, "local");
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 5000)));
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!("256MiB".parse(), Ok(ByteSize(256 << 20)));
        assert_eq!("1g".parse(), Ok(ByteSize(1 << 30)));
        assert_eq!("12".parse(), Ok(ByteSize(12)));
        assert!("12 parsecs".parse::<ByteSize>().is_err());
        assert!("99999999999GiB".parse::<ByteSize>().is_err());
        assert_eq!("500ms".parse(), Ok(Seconds(Duration::from_millis(500))));
        assert_eq!("2m".parse(), Ok(Seconds(Duration::from_secs(120))));
        assert!("".parse::<Seconds>().is_err());
        assert_eq!(settings("memory = 1048576").memory, Some(ByteSize(1 << 20)));
        assert_eq!(settings("memory = '1MiB'").memory, Some(ByteSize(1 << 20)));
        let config = settings("data = '/d'\nverified-window = '5m'\nscrub-mib-per-s = 3").resolve().unwrap();
        assert_eq!((config.verified_window, config.scrub_bytes_per_s), (Duration::from_secs(300), 3 << 20));
        assert_eq!(settings("data = '/d'").resolve().unwrap().scrub_bytes_per_s, 16 << 20);
    }

    #[test]
    fn a_body_must_move_unless_told_otherwise() {
        assert_eq!(settings("data = '/d'").resolve().unwrap().body_rate_min, 1 << 10);
        assert_eq!(settings("data = '/d'\nbody-rate-min = 0").resolve().unwrap().body_rate_min, 0);
    }

    #[test]
    fn what_the_medium_is_asked_for_is_what_the_engine_asks_for_by_itself_unless_it_is_said() {
        let (config, engine) = (settings("data = '/d'").resolve().unwrap(), layerhold::Options::default());
        assert_eq!((config.free_bytes_min, config.ballast_bytes), (engine.free_bytes_min, engine.ballast_bytes));
        assert_eq!(
            (config.read_back, config.any_medium, config.read_only),
            (engine.read_back, engine.any_medium, false)
        );
        let said = "data = '/d'\nfree-min = '1GiB'\nballast = 0\nread-back = true\nany-medium = true\nread-only = true";
        let config = settings(said).resolve().unwrap();
        assert_eq!((config.free_bytes_min, config.ballast_bytes), (1 << 30, 0));
        assert_eq!((config.read_back, config.any_medium, config.read_only), (ReadBack::BeforeCommit, true, true));
    }

    #[test]
    fn beyond_loopback_needs_a_flag() {
        for address in ["0.0.0.0:5000", "[::]:5000", "10.0.0.1:80"] {
            let open = format!("data = '/d'\nlisten = '{address}'");
            assert!(matches!(settings(&open).resolve(), Err(ConfigError::Unauthenticated { .. })), "{address}");
            let public = format!("data = '/d'\npublic-listen = '{address}'");
            assert!(matches!(settings(&public).resolve(), Err(ConfigError::Unauthenticated { .. })), "{address}");
            let allowed = format!("{open}\nallow-unauthenticated = true");
            assert!(settings(&allowed).resolve().is_ok());
        }
        assert!(settings("data = '/d'\nlisten = '[::1]:0'").resolve().is_ok());
    }

    #[test]
    fn bad_values_name_their_setting() {
        for (toml, value) in [
            ("account = '12345'", "account=12345"),
            ("region = 'US'", "region=US"),
            ("public-alias = 'a--b'", "alias=a--b"),
            ("external-url = 'http://x/path'", "url=http://x/path"),
            ("public-external-url = 'x'", "url=x"),
            ("body-memory = '1MiB'", "setting=body-memory value=1048576"),
        ] {
            let refused = settings(&format!("data = '/d'\n{toml}")).resolve().unwrap_err().to_string();
            assert!(refused.ends_with(value), "{toml}: {refused}");
        }
        assert!(matches!(Settings::default().resolve(), Err(ConfigError::Missing { setting: "data" })));
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_refused() {
        assert!(toml::from_str::<Settings>("lisen = '127.0.0.1:1'").is_err());
    }
}
