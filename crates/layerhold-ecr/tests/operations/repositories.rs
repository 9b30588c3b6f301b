//! CreateRepository, DescribeRepositories, DeleteRepository, PutImageTagMutability.

use layerhold::Limits;
use layerhold_ecr::registry::Scope;
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Harness, invalid, no_repository, refused};

fn names(answer: &Value) -> Vec<&str> {
    answer["repositories"].as_array().unwrap().iter().map(|r| r["repositoryName"].as_str().unwrap()).collect()
}

#[test]
fn a_private_repository_is_created_with_defaults() {
    let harness = Harness::new();
    let answer = harness.private("CreateRepository", json!({ "repositoryName": "team/app" })).unwrap();
    let mut repository = answer["repository"].clone();
    assert!(repository["createdAt"].is_number());
    repository.as_object_mut().unwrap().remove("createdAt");
    assert_eq!(
        repository,
        json!({
            "repositoryArn": "arn:aws:ecr:eu-west-1:012345678901:repository/team/app",
            "registryId": ACCOUNT,
            "repositoryName": "team/app",
            "repositoryUri": "127.0.0.1:5000/team/app",
            "imageTagMutability": "MUTABLE",
            "imageScanningConfiguration": { "scanOnPush": false },
            "encryptionConfiguration": { "encryptionType": "AES256" },
        })
    );
    let described = harness.private("DescribeRepositories", json!({ "repositoryNames": ["team/app"] })).unwrap();
    assert_eq!(described["repositories"][0], answer["repository"]);
    // Names are independent of one another.
    harness.private("CreateRepository", json!({ "repositoryName": "team" })).unwrap();
}

#[test]
fn a_public_repository_is_created_with_its_catalogue_record() {
    let harness = Harness::new();
    let catalog = json!({ "description": "d", "architectures": ["x86-64"], "aboutText": "about" });
    let members = json!({ "repositoryName": "app", "catalogData": catalog, "tags": [{ "Key": "k" }] });
    let answer = harness.public("CreateRepository", members).unwrap();
    assert_eq!(answer["catalogData"], catalog);
    let repository = answer["repository"].as_object().unwrap();
    assert_eq!(repository["repositoryArn"], json!("arn:aws:ecr-public::012345678901:repository/app"));
    assert_eq!(repository["repositoryUri"], json!("public.example/local/app"));
    assert_eq!(repository.len(), 5, "{repository:?}");
    // The two registries are apart.
    no_repository(harness.private("DescribeRepositories", json!({ "repositoryNames": ["app"] })), "app", ACCOUNT);

    let logo = json!({ "repositoryName": "logo", "catalogData": { "logoImageBlob": "AAEC" } });
    invalid(
        harness.public("CreateRepository", logo),
        "catalogData.logoImageBlob",
        "Logos are not stored by this registry",
    );
    let large = json!({ "repositoryName": "large", "catalogData":
        { "aboutText": "é".repeat(25_600), "usageText": "é".repeat(25_600) } });
    let detail = "Tags and catalog data together are too large";
    invalid(harness.public("CreateRepository", large), "catalogData", detail);
    assert_eq!(names(&harness.public("DescribeRepositories", json!({})).unwrap()), ["app"]);
}

#[test]
fn settings_of_a_new_repository_are_kept() {
    let harness = Harness::new();
    let filters =
        json!([{ "filterType": "WILDCARD", "filter": "dev-*" }, { "filterType": "WILDCARD", "filter": "*-rc*" }]);
    let members = json!({
        "registryId": ACCOUNT,
        "repositoryName": "app",
        "tags": [{ "Key": "team", "Value": "a" }],
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": filters,
        "imageScanningConfiguration": { "scanOnPush": true },
        "encryptionConfiguration": { "encryptionType": "AES256" },
    });
    harness.private("CreateRepository", members).unwrap();
    let repository = &harness.private("DescribeRepositories", json!({})).unwrap()["repositories"][0];
    assert_eq!(repository["imageTagMutability"], json!("IMMUTABLE_WITH_EXCLUSION"));
    assert_eq!(repository["imageTagMutabilityExclusionFilters"], filters);
    assert_eq!(repository["imageScanningConfiguration"], json!({ "scanOnPush": true }));
}

#[test]
fn create_names_what_is_wrong() {
    let harness = Harness::with_repository("taken");
    let create = |members: Value| {
        let mut all = json!({ "repositoryName": "app" });
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        harness.private("CreateRepository", all)
    };
    let filters = "imageTagMutabilityExclusionFilters";
    invalid(
        create(json!({ "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION" })),
        filters,
        "ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as IMMUTABLE_WITH_EXCLUSION",
    );
    let one = json!([{ "filterType": "WILDCARD", "filter": "a*" }]);
    invalid(
        create(json!({ "imageTagMutability": "IMMUTABLE", "imageTagMutabilityExclusionFilters": one })),
        filters,
        "ImageTagMutabilityExclusionFilters must be null when imageTagMutability is set as IMMUTABLE",
    );
    invalid(
        create(json!({ "imageTagMutabilityExclusionFilters": one })),
        filters,
        "ImageTagMutabilityExclusionFilters must be null when imageTagMutability is set as MUTABLE",
    );
    let three = json!([one[0], { "filterType": "WILDCARD", "filter": "a*b*c*" }]);
    invalid(
        create(json!({ "imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": three })),
        "imageTagMutabilityExclusionFilters.2.filter",
        "Filter must have at most 2 wildcards",
    );
    let key = json!({ "encryptionConfiguration": { "encryptionType": "AES256", "kmsKey": "k" } });
    let detail = "kmsKey must be null when encryptionType is set as AES256";
    invalid(create(key), "encryptionConfiguration.kmsKey", detail);
    invalid(create(json!({ "registryId": "999999999999" })), "registryId", "Registry does not exist");

    let tags = (0..51).map(|i| json!({ "Key": i.to_string(), "Value": "" })).collect::<Vec<_>>();
    refused(create(json!({ "tags": tags })), "TooManyTagsException", "The resource has more than 50 tags");
    let sentence =
        |path: &str, detail: &str| format!("Invalid parameter at '{path}' failed to satisfy constraint: '{detail}'");
    for (tags, path, detail) in [
        (json!([{ "Key": "", "Value": "" }]), "tags.1.Key", "Member must have length greater than or equal to 1"),
        (json!([{ "Key": "aws:x", "Value": "" }]), "tags.1.Key", "Tag keys must not start with aws:"),
        (json!([{ "Key": "a", "Value": "" }, { "Key": "a", "Value": "" }]), "tags.2.Key", "Tag keys must be unique"),
    ] {
        refused(create(json!({ "tags": tags })), "InvalidTagParameterException", &sentence(path, detail));
    }

    let taken = "The repository with name 'taken' already exists in the registry with id '012345678901'";
    for scope in [Scope::Private, Scope::Public] {
        let answer = harness.in_scope(scope, "CreateRepository", json!({ "repositoryName": "taken" }));
        refused(answer, "RepositoryAlreadyExistsException", taken);
    }
    for kind in ["KMS", "KMS_DSSE"] {
        let kms = json!({ "encryptionConfiguration": { "encryptionType": kind, "kmsKey": "arn:aws:kms:key" } });
        let refusal = create(kms.clone()).unwrap_err();
        assert_eq!((refusal.status, refusal.name.as_str()), (400, "KmsException"));
        assert_eq!(refusal.message, format!("Encryption of type {kind} is not supported by this registry"));
        assert_eq!(refusal.body["kmsError"], json!("UnsupportedOperationException"));
        // A name that is taken is reported before the key.
        let mut taken_too = kms;
        taken_too["repositoryName"] = json!("taken");
        assert_eq!(create(taken_too).unwrap_err().name, "RepositoryAlreadyExistsException");
    }
    assert_eq!(names(&harness.private("DescribeRepositories", json!({})).unwrap()), ["taken"], "nothing was made");
}

#[test]
fn a_full_registry_is_reported_before_a_key_and_after_a_name_that_is_taken() {
    let mut limits = Limits::ecr_private();
    limits.repositories = 1;
    let harness = Harness::with_limits(limits);
    let create = |name: &str| {
        let kms = json!({ "encryptionType": "KMS" });
        let members = json!({ "repositoryName": name, "encryptionConfiguration": kms });
        harness.private("CreateRepository", members).unwrap_err().name
    };
    assert_eq!(create("one"), "KmsException");
    harness.create("one");
    assert_eq!(create("one"), "RepositoryAlreadyExistsException");
    assert_eq!(create("two"), "LimitExceededException");
}

#[test]
fn the_number_of_repositories_is_limited() {
    let mut limits = Limits::ecr_private();
    limits.repositories = 2;
    let harness = Harness::with_limits(limits);
    harness.create("aa");
    harness.create("bb");
    for scope in [Scope::Private, Scope::Public] {
        refused(
            harness.in_scope(scope, "CreateRepository", json!({ "repositoryName": "cc" })),
            "LimitExceededException",
            "Creating the repository with name 'cc' in registry with id '012345678901' exceeds the maximum allowed number of \
             repositories per registry which is '2'",
        );
    }
}

#[test]
fn repositories_are_listed_in_pages() {
    let harness = Harness::new();
    for name in ["bb", "aa", "dd/x", "cc"] {
        harness.create(name);
    }
    for scope in [Scope::Private, Scope::Public] {
        let list = |members: Value| harness.in_scope(scope, "DescribeRepositories", members);
        let first = list(json!({ "maxResults": 3 })).unwrap();
        assert_eq!(names(&first), ["aa", "bb", "cc"]);
        // The size may change from page to page.
        let second = list(json!({ "maxResults": 1, "nextToken": first["nextToken"] })).unwrap();
        assert_eq!(names(&second), ["dd/x"]);
        assert!(second.get("nextToken").is_none());
        assert_eq!(names(&list(json!({})).unwrap()), ["aa", "bb", "cc", "dd/x"]);
        assert_eq!(names(&list(json!({ "repositoryNames": ["cc", "aa", "cc"] })).unwrap()), ["cc", "aa"]);

        let detail = "Member must be null when items are named explicitly";
        invalid(list(json!({ "repositoryNames": ["aa"], "maxResults": 1 })), "maxResults", detail);
        invalid(list(json!({ "repositoryNames": ["aa"], "nextToken": "x" })), "nextToken", detail);
        invalid(
            list(json!({ "nextToken": "x" })),
            "nextToken",
            "Member must be a token that the same request returned",
        );
        no_repository(list(json!({ "repositoryNames": ["aa", "zz"] })), "zz", ACCOUNT);
        let foreign = json!({ "registryId": "999999999999", "repositoryNames": ["aa"] });
        no_repository(list(foreign), "aa", "999999999999");
        invalid(list(json!({ "registryId": "999999999999" })), "registryId", "Registry does not exist");
    }
    // A token of one registry does not open in the other.
    let token = harness.private("DescribeRepositories", json!({ "maxResults": 1 })).unwrap()["nextToken"].clone();
    let detail = "Member must be a token that the same request returned";
    invalid(harness.public("DescribeRepositories", json!({ "nextToken": token })), "nextToken", detail);
}

#[test]
fn a_repository_with_images_is_deleted_by_force_only() {
    let harness = Harness::with_repository("app");
    for scope in [Scope::Private, Scope::Public] {
        let delete = |members: Value| harness.in_scope(scope, "DeleteRepository", members);
        let before = harness.in_scope(scope, "DescribeRepositories", json!({})).unwrap()["repositories"][0].clone();
        harness.push(scope, "app", "layer", &["v1"]);
        let not_empty = "The repository with name 'app' in registry with id '012345678901' cannot be deleted because it \
                         still contains images";
        refused(delete(json!({ "repositoryName": "app" })), "RepositoryNotEmptyException", not_empty);
        refused(delete(json!({ "repositoryName": "app", "force": false })), "RepositoryNotEmptyException", not_empty);
        no_repository(delete(json!({ "repositoryName": "app", "registryId": "999999999999" })), "app", "999999999999");
        let deleted = delete(json!({ "repositoryName": "app", "force": true })).unwrap();
        assert_eq!(deleted["repository"], before, "the repository as it was");
        no_repository(delete(json!({ "repositoryName": "app" })), "app", ACCOUNT);
        // The name is free, and nothing of the old repository is in the new one.
        harness.in_scope(scope, "CreateRepository", json!({ "repositoryName": "app" })).unwrap();
        let images = harness.in_scope(scope, "DescribeImages", json!({ "repositoryName": "app" })).unwrap();
        assert_eq!(images["imageDetails"], json!([]));
        // Layers that no image references do not keep it.
        harness.push_layer(scope, "app", b"alone");
        delete(json!({ "repositoryName": "app" })).unwrap();
    }
}

#[test]
fn mutability_is_replaced_as_a_whole() {
    let harness = Harness::with_repository("app");
    let put = |members: Value| {
        let mut all = json!({ "repositoryName": "app" });
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        harness.private("PutImageTagMutability", all)
    };
    let described = || harness.private("DescribeRepositories", json!({})).unwrap()["repositories"][0].clone();
    let filters = json!([{ "filterType": "WILDCARD", "filter": "v*" }]);
    let with = json!({ "imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters });
    assert_eq!(
        put(with).unwrap(),
        json!({
            "registryId": ACCOUNT,
            "repositoryName": "app",
            "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": filters,
        })
    );
    assert_eq!(described()["imageTagMutabilityExclusionFilters"], filters);
    let plain = json!({ "registryId": ACCOUNT, "repositoryName": "app", "imageTagMutability": "IMMUTABLE" });
    assert_eq!(put(json!({ "imageTagMutability": "IMMUTABLE" })).unwrap(), plain);
    assert!(described().get("imageTagMutabilityExclusionFilters").is_none(), "a plain value drops the filters");

    invalid(
        put(json!({ "imageTagMutability": "MUTABLE_WITH_EXCLUSION" })),
        "imageTagMutabilityExclusionFilters",
        "ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as MUTABLE_WITH_EXCLUSION",
    );
    invalid(
        put(json!({ "imageTagMutability": "MUTABLE", "imageTagMutabilityExclusionFilters": filters })),
        "imageTagMutabilityExclusionFilters",
        "ImageTagMutabilityExclusionFilters must be null when imageTagMutability is set as MUTABLE",
    );
    let six = vec![json!({ "filterType": "WILDCARD", "filter": "v*" }); 6];
    invalid(
        put(json!({ "imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": six })),
        "imageTagMutabilityExclusionFilters",
        "Member must have length less than or equal to 5",
    );
    assert_eq!(described()["imageTagMutability"], json!("IMMUTABLE"), "what was refused changed nothing");
    no_repository(put(json!({ "repositoryName": "none", "imageTagMutability": "MUTABLE" })), "none", ACCOUNT);
    // The pairing is a constraint: it is judged before the repository is looked up.
    let answer = put(json!({ "repositoryName": "none", "imageTagMutability": "MUTABLE_WITH_EXCLUSION" }));
    assert_eq!(answer.unwrap_err().name, "InvalidParameterException");
}
