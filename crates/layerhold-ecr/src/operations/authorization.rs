//! Authorization tokens: well formed and dated. Nothing asks for one yet.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::Context;
use crate::failure::Failure;
use crate::generated::types::{
    AuthorizationData, GetAuthorizationTokenRequest, GetAuthorizationTokenResponse, PublicGetAuthorizationTokenResponse,
};
use crate::messages;

/// How long a token lasts: 12 hours of wall time.
const TOKEN_MS: u64 = 12 * 3_600_000;

pub(super) fn private_token(
    context: &Context<'_>,
    input: GetAuthorizationTokenRequest,
) -> Result<GetAuthorizationTokenResponse, Failure> {
    let ids = input.registry_ids.unwrap_or_else(|| vec![context.config().account().to_owned()]);
    if let Some(at) = ids.iter().position(|id| id != context.config().account()) {
        let path = format!("registryIds.{}", at + 1);
        return Err(Failure::invalid_parameter(&path, messages::NO_SUCH_REGISTRY));
    }
    let endpoint = context.scope.external_url(context.config()).as_str();
    let entry = |_| AuthorizationData { proxy_endpoint: Some(endpoint.to_owned()), ..issue(context) };
    Ok(GetAuthorizationTokenResponse { authorization_data: Some(ids.iter().map(entry).collect()) })
}

pub(super) fn public_token(
    context: &Context<'_>,
    _: GetAuthorizationTokenRequest,
) -> Result<PublicGetAuthorizationTokenResponse, Failure> {
    Ok(PublicGetAuthorizationTokenResponse { authorization_data: Some(issue(context)) })
}

/// A user name and a password in base64, as HTTP basic authentication wants them. The password names the principal and
/// the time until which it holds, under the adapter's key.
fn issue(context: &Context<'_>) -> AuthorizationData {
    let until_ms = context.ecr.wall_ms().saturating_add(TOKEN_MS);
    let principal = context.call.principal.as_str().as_bytes();
    let seal = context.ecr.key().hash("authorization token", &[&until_ms.to_le_bytes(), principal]);
    let password = [&until_ms.to_le_bytes()[..], seal.as_bytes(), principal].concat();
    let token = format!("AWS:{}", URL_SAFE_NO_PAD.encode(password));
    AuthorizationData {
        authorization_token: Some(STANDARD.encode(token)),
        expires_at: Some(crate::shape::Timestamp::from_ms(until_ms)),
        proxy_endpoint: None,
    }
}
