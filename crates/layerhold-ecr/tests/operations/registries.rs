//! DescribeRegistries and GetAuthorizationToken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Harness, invalid};

#[test]
fn the_public_registry_describes_itself() {
    let harness = Harness::new();
    let registry = json!({
        "registryId": ACCOUNT,
        "registryArn": "arn:aws:ecr-public::012345678901:registry/012345678901",
        "registryUri": "public.example/local",
        "verified": false,
        "aliases": [{ "name": "local", "status": "ACTIVE", "primaryRegistryAlias": true, "defaultRegistryAlias": true }],
    });
    let answer = json!({ "registries": [registry] });
    assert_eq!(harness.public("DescribeRegistries", json!({})).unwrap(), answer);
    assert_eq!(harness.public("DescribeRegistries", json!({ "maxResults": 1 })).unwrap(), answer);
    invalid(
        harness.public("DescribeRegistries", json!({ "nextToken": "AAAA" })),
        "nextToken",
        "Member must be a token that the same request returned",
    );
}

fn password(data: &Value) -> String {
    let token = STANDARD.decode(data["authorizationToken"].as_str().unwrap()).unwrap();
    String::from_utf8(token).unwrap().strip_prefix("AWS:").expect("the user is AWS").to_owned()
}

#[test]
fn tokens_are_well_formed_and_last_twelve_hours() {
    let harness = Harness::new();
    let private = harness.private("GetAuthorizationToken", json!({})).unwrap();
    let data = &private["authorizationData"][0];
    assert_eq!(private["authorizationData"].as_array().unwrap().len(), 1);
    assert_eq!(data["proxyEndpoint"], json!("http://127.0.0.1:5000"));
    assert_eq!(data["expiresAt"], json!(1_700_043_200.25));
    assert!(password(data).len() > 40);

    let two = harness.private("GetAuthorizationToken", json!({ "registryIds": [ACCOUNT, ACCOUNT] })).unwrap();
    assert_eq!(two["authorizationData"].as_array().unwrap().len(), 2, "one entry for each id that is given");
    invalid(
        harness.private("GetAuthorizationToken", json!({ "registryIds": [ACCOUNT, "999999999999"] })),
        "registryIds.2",
        "Registry does not exist",
    );

    let public = harness.public("GetAuthorizationToken", json!({})).unwrap();
    let data = &public["authorizationData"];
    assert!(data.get("proxyEndpoint").is_none());
    assert!(password(data).len() > 40);
}
