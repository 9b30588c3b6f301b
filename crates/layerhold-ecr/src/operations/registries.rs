//! The public registry itself.

use super::Context;
use crate::failure::Failure;
use crate::generated::types::{
    DescribeRegistriesRequest, DescribeRegistriesResponse, Registry, RegistryAlias, RegistryAliasStatus,
};
use crate::registry::public_registry_arn;

pub(super) fn describe(
    context: &Context<'_>,
    input: DescribeRegistriesRequest,
) -> Result<DescribeRegistriesResponse, Failure> {
    // There is one registry and so one page: no token was ever given out.
    context.place(&context.query(), input.next_token.as_deref())?;
    let config = context.config();
    let alias = RegistryAlias {
        name: config.public_alias().to_owned(),
        status: RegistryAliasStatus::Active,
        primary_registry_alias: true,
        default_registry_alias: true,
    };
    let registry = Registry {
        registry_id: config.account().to_owned(),
        registry_arn: public_registry_arn(config),
        registry_uri: context.scope.repository_uri_base(config),
        verified: false,
        aliases: vec![alias],
    };
    Ok(DescribeRegistriesResponse { registries: vec![registry], next_token: None })
}
