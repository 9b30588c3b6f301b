//! docs/ecr.md says of every operation whether it has a body. This holds it to that.

use layerhold_ecr::registry::Scope;
use layerhold_ecr::shape::services;
use serde_json::json;

use crate::harness::{Harness, refused};

#[test]
fn the_page_lists_every_operation_and_its_state() {
    let page = include_str!("../../../../docs/ecr.md");
    let (_, tables) = page.split_once("### Private service").expect("the private table");
    let (private, public) = tables.split_once("### Public service").expect("the public table");
    let (public, _) = public.split_once("\n## ").expect("the end of the public table");
    for (service, table) in services().into_iter().zip([private, public]) {
        let scope = Scope::of(service);
        let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
        let listed = rows.filter(|(name, _)| *name != "Operation").collect::<Vec<_>>();
        let expected = service
            .operations
            .iter()
            .map(|operation| {
                (operation.name, if layerhold_ecr::is_implemented(scope, operation) { "done" } else { "501" })
            })
            .collect::<Vec<_>>();
        assert_eq!(listed, expected);
        let done = expected.iter().filter(|(_, state)| *state == "done").count();
        let heading = format!("service: {} operations, {done} done", service.operations.len());
        assert!(
            page.contains(&format!("### {} {heading}", if scope == Scope::Private { "Private" } else { "Public" }))
        );
    }
}

#[test]
fn an_operation_without_a_body_says_so_once_its_request_is_right() {
    let harness = Harness::new();
    let members = json!({ "repositoryName": "app", "policyText": "{}" });
    for refusal in [
        harness.private("SetRepositoryPolicy", members.clone()).unwrap_err(),
        harness.public("SetRepositoryPolicy", members).unwrap_err(),
    ] {
        assert_eq!((refusal.status, refusal.name.as_str()), (501, "NotImplemented"));
        assert_eq!(refusal.message, "The operation SetRepositoryPolicy is not implemented");
    }
    let message = "Invalid parameter at 'policyText' failed to satisfy constraint: 'Member must not be null'";
    let answer = harness.private("SetRepositoryPolicy", json!({ "repositoryName": "app" }));
    refused(answer, "InvalidParameterException", message);
}
