//! Which registry a request means, and how registries and repositories are called in answers.
//!
//! A server serves one private and one public registry of one account. Other accounts, and other aliases, do not exist.

use std::fmt;

use crate::failure::Failure;
use crate::generated::types::ErrorCode;
use crate::messages::{self, Place};
use crate::shape::{Operation, Pattern};

/// What the two registries are called, and where clients reach them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    account: String,
    region: String,
    public_alias: String,
    partition: String,
    external_url: ExternalUrl,
    public_external_url: ExternalUrl,
}

/// Why a [`RegistryConfig`] cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// An account id is not twelve digits.
    Account {
        /// What was given.
        given: String,
    },
    /// A Region is not 2 to 25 characters out of small letters, digits and hyphens.
    Region {
        /// What was given.
        given: String,
    },
    /// A public alias breaks its grammar, or is not 2 to 50 characters long.
    PublicAlias {
        /// What was given.
        given: String,
    },
    /// A URL is not `http://` or `https://` followed by host and port and nothing more.
    ExternalUrl {
        /// What was given.
        given: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { given } => write!(f, "an account id is twelve digits: account={given}"),
            Self::Region { given } => {
                write!(f, "a region is 2 to 25 small letters, digits and hyphens: region={given}")
            }
            Self::PublicAlias { given } => write!(
                f,
                "a public alias is 2 to 50 small letters and digits with single . _ - between them: alias={given}"
            ),
            Self::ExternalUrl { given } => {
                write!(f, "an external url is http:// or https://, a host and maybe a port: url={given}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// A scheme and an authority, as clients see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalUrl {
    text: String,
    authority_at: usize,
}

impl ExternalUrl {
    /// Reads `http://host:port` or `https://host`. A slash at the end is dropped; a path is refused, because clients of
    /// `/v2/` cannot be given one.
    ///
    /// # Errors
    /// [`ConfigError::ExternalUrl`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refused = || ConfigError::ExternalUrl { given: text.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if !matches!(scheme, "http" | "https") || authority.is_empty() || !authority.bytes().all(allowed) {
            return Err(refused());
        }
        Ok(Self { text: format!("{scheme}://{authority}"), authority_at: scheme.len() + "://".len() })
    }

    /// Scheme and authority, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The authority alone: host, and the port if one is named.
    pub fn authority(&self) -> &str {
        self.text.get(self.authority_at..).unwrap_or_default()
    }
}

static ACCOUNT: Pattern = Pattern::new("[0-9]{12}");
static REGION: Pattern = Pattern::new("[0-9a-z-]{2,25}");
static PUBLIC_ALIAS: Pattern = Pattern::new("[a-z][a-z0-9]+(?:[._-][a-z0-9]+)*");

impl RegistryConfig {
    /// The registries of `account`: the private one in `region`, the public one under `public_alias`.
    ///
    /// `external_url` and `public_external_url` are where clients reach the two; download URLs, `proxyEndpoint` and
    /// `repositoryUri` are made of them.
    ///
    /// # Errors
    /// The first part that breaks its grammar.
    pub fn new(
        account: &str,
        region: &str,
        public_alias: &str,
        external_url: ExternalUrl,
        public_external_url: ExternalUrl,
    ) -> Result<Self, ConfigError> {
        if !ACCOUNT.matches(account) {
            return Err(ConfigError::Account { given: account.to_owned() });
        }
        if !REGION.matches(region) {
            return Err(ConfigError::Region { given: region.to_owned() });
        }
        if !(2..=50).contains(&public_alias.len()) || !PUBLIC_ALIAS.matches(public_alias) {
            return Err(ConfigError::PublicAlias { given: public_alias.to_owned() });
        }
        Ok(Self {
            account: account.to_owned(),
            region: region.to_owned(),
            public_alias: public_alias.to_owned(),
            partition: "aws".to_owned(),
            external_url,
            public_external_url,
        })
    }

    /// The account that owns both registries.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The Region of the private registry.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The alias under which the public registry's repositories are pulled.
    pub fn public_alias(&self) -> &str {
        &self.public_alias
    }
}

/// One of the two registries of a [`RegistryConfig`], under the names that answers give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The private registry.
    Private,
    /// The public registry.
    Public,
}

impl Scope {
    /// The registry that the operations of `service` work on.
    pub fn of(service: &crate::shape::Service) -> Self {
        if service.name == crate::generated::public::SERVICE.name { Self::Public } else { Self::Private }
    }

    /// The name under which the engine keeps this registry: `private/<account>/<region>` or `public/<account>`.
    pub fn engine_name(self, config: &RegistryConfig) -> String {
        match self {
            Self::Private => format!("private/{}/{}", config.account, config.region),
            Self::Public => format!("public/{}", config.account),
        }
    }

    /// Where clients reach this registry.
    pub fn external_url(self, config: &RegistryConfig) -> &ExternalUrl {
        match self {
            Self::Private => &config.external_url,
            Self::Public => &config.public_external_url,
        }
    }

    /// The ARN of a repository in this registry.
    pub fn repository_arn(self, config: &RegistryConfig, name: &str) -> String {
        let RegistryConfig { partition, region, account, .. } = config;
        match self {
            Self::Private => format!("arn:{partition}:ecr:{region}:{account}:repository/{name}"),
            Self::Public => format!("arn:{partition}:ecr-public::{account}:repository/{name}"),
        }
    }

    /// What a client writes to pull from a repository in this registry.
    pub fn repository_uri(self, config: &RegistryConfig, name: &str) -> String {
        format!("{}/{name}", self.repository_uri_base(config))
    }

    /// What stands before the repository's name in it.
    pub fn repository_uri_base(self, config: &RegistryConfig) -> String {
        let authority = self.external_url(config).authority();
        match self {
            Self::Private => authority.to_owned(),
            Self::Public => format!("{authority}/{}", config.public_alias),
        }
    }

    /// Whether `registry_id`, or its absence, means this registry. The public one also answers to its alias.
    fn is_called(self, config: &RegistryConfig, registry_id: Option<&str>) -> bool {
        match registry_id {
            None => true,
            Some(given) => given == config.account || (self == Self::Public && given == config.public_alias),
        }
    }

    /// Judges the `registryId` of a request about one repository.
    ///
    /// # Errors
    /// A registry that does not exist is `RegistryNotFoundException` where `operation` models it. Elsewhere the
    /// repository is what does not exist, in the registry that the caller named.
    pub fn resolve(
        self,
        config: &RegistryConfig,
        operation: &Operation,
        registry_id: Option<&str>,
        repository: &str,
    ) -> Result<(), Failure> {
        if self.is_called(config, registry_id) {
            return Ok(());
        }
        let registry = registry_id.unwrap_or_default();
        Err(if operation.models(ErrorCode::RegistryNotFoundException) {
            Failure::new(ErrorCode::RegistryNotFoundException, messages::registry_not_found(registry))
        } else {
            Failure::new(
                ErrorCode::RepositoryNotFoundException,
                messages::repository_not_found(Place { repository, registry }),
            )
        })
    }
}

/// The ARN of the public registry itself.
pub fn public_registry_arn(config: &RegistryConfig) -> String {
    format!("arn:{}:ecr-public::{account}:registry/{account}", config.partition, account = config.account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{private, public};

    fn url(text: &str) -> ExternalUrl {
        ExternalUrl::parse(text).unwrap()
    }

    fn config() -> RegistryConfig {
        let (private, public) = (url("http://127.0.0.1:5000"), url("https://public.example/"));
        RegistryConfig::new("012345678901", "eu-west-1", "local", private, public).unwrap()
    }

    #[test]
    fn names_follow_the_two_services() {
        let config = config();
        assert_eq!(Scope::Private.engine_name(&config), "private/012345678901/eu-west-1");
        assert_eq!(Scope::Public.engine_name(&config), "public/012345678901");
        assert_eq!(Scope::Private.repository_arn(&config, "a/b"), "arn:aws:ecr:eu-west-1:012345678901:repository/a/b");
        assert_eq!(Scope::Public.repository_arn(&config, "a/b"), "arn:aws:ecr-public::012345678901:repository/a/b");
        assert_eq!(public_registry_arn(&config), "arn:aws:ecr-public::012345678901:registry/012345678901");
        assert_eq!(Scope::Private.repository_uri(&config, "a/b"), "127.0.0.1:5000/a/b");
        assert_eq!(Scope::Public.repository_uri(&config, "a/b"), "public.example/local/a/b");
        assert_eq!(Scope::of(&private::SERVICE), Scope::Private);
        assert_eq!(Scope::of(&public::SERVICE), Scope::Public);
    }

    #[test]
    fn other_registries_do_not_exist() {
        let config = config();
        let resolve = |scope: Scope, service: &crate::shape::Service, operation: &str, id: Option<&str>| {
            scope
                .resolve(&config, service.operation(operation).unwrap(), id, "app")
                .map_err(|failure| (failure.code().as_str(), failure.message().to_owned()))
        };
        for id in [None, Some("012345678901")] {
            assert_eq!(resolve(Scope::Private, &private::SERVICE, "PutImage", id), Ok(()));
            assert_eq!(resolve(Scope::Public, &public::SERVICE, "PutImage", id), Ok(()));
        }
        assert_eq!(resolve(Scope::Public, &public::SERVICE, "PutImage", Some("local")), Ok(()));
        let not_found = |text: &str| {
            let text = format!("The repository with name 'app' does not exist in the registry with id '{text}'");
            Err(("RepositoryNotFoundException", text))
        };
        assert_eq!(
            resolve(Scope::Private, &private::SERVICE, "PutImage", Some("999999999999")),
            not_found("999999999999")
        );
        assert_eq!(resolve(Scope::Private, &private::SERVICE, "PutImage", Some("local")), not_found("local"));
        assert_eq!(
            resolve(Scope::Public, &public::SERVICE, "PutImage", Some("other")),
            Err(("RegistryNotFoundException", "The registry with id 'other' does not exist".to_owned()))
        );
        // BatchDeleteImage is public too but does not model RegistryNotFoundException.
        assert_eq!(resolve(Scope::Public, &public::SERVICE, "BatchDeleteImage", Some("other")), not_found("other"));
    }

    #[test]
    fn bad_configurations_are_refused() {
        let new = |account, region, alias| {
            RegistryConfig::new(account, region, alias, url("http://a"), url("http://a"))
                .map(drop)
                .map_err(|e| e.to_string())
        };
        assert_eq!(new("1234", "us-east-1", "local"), Err("an account id is twelve digits: account=1234".to_owned()));
        assert!(new("012345678901", "US", "local").unwrap_err().ends_with("region=US"));
        for alias in ["l", "Local", "-a", "a--b", "aa-", &"a".repeat(51)] {
            assert!(new("012345678901", "us-east-1", alias).unwrap_err().ends_with(&format!("alias={alias}")));
        }
        for bad in ["", "127.0.0.1:5000", "ftp://a", "http://", "http://a/b", "http://a b", "http://a?b"] {
            assert!(ExternalUrl::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(url("https://[::1]:5000/").authority(), "[::1]:5000");
        assert_eq!(url("https://a/").as_str(), "https://a");
    }
}
