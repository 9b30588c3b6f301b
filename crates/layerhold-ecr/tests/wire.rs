//! Request bytes in, response bytes out: everything that is judged before an operation sees a request.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layerhold_ecr::failure::{Code, CommonError, Failure};
use layerhold_ecr::generated::types::{
    BatchDeleteImageRequest, CreateRepositoryRequest, DescribeRepositoriesRequest, ErrorCode, ImageTagMutability,
    PutImageRequest, UploadLayerPartRequest,
};
use layerhold_ecr::wire::{self, Accepted, BODY_BYTES_MAX, CONTENT_TYPE, LARGE_BODY_BYTES_MAX, Request, Response};

const PRIVATE: &str = "AmazonEC2ContainerRegistry_V20150921";
const PUBLIC: &str = "SpencerFrontendService";
const UPLOAD: &str = "6cb64b8a-9378-0e33-2ab1-b780fab8a9e9";

fn accept_bytes(target: &str, body: Vec<u8>) -> Result<Accepted, Failure> {
    wire::accept(Request { target: Some(target), content_type: Some(CONTENT_TYPE), body, request_id: "r" })
}

fn accept(operation: &str, body: &str) -> Result<Accepted, Failure> {
    accept_bytes(&format!("{PRIVATE}.{operation}"), body.as_bytes().to_vec())
}

fn refused(operation: &str, body: &str) -> Response {
    Response::failed(&accept(operation, body).expect_err(body), "request-1")
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

/// The body of an `InvalidParameterException`.
fn invalid(path: &str, detail: &str) -> String {
    let message = format!("Invalid parameter at '{path}' failed to satisfy constraint: '{detail}'");
    serde_json::json!({ "__type": "InvalidParameterException", "message": message }).to_string()
}

#[test]
fn a_refusal_is_these_bytes() {
    let response = refused("InitiateLayerUpload", "{}");
    assert_eq!(response.status, 400);
    assert_eq!(
        text(&response),
        r#"{"__type":"InvalidParameterException","message":"Invalid parameter at 'repositoryName' failed to satisfy constraint: 'Member must not be null'"}"#
    );
    assert_eq!(
        response.headers,
        [("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amzn-requestid", "request-1".to_owned())]
    );
    let response = Response::succeeded(b"{}".to_vec(), "request-2");
    assert_eq!((response.status, text(&response)), (200, "{}"));
}

#[test]
fn the_target_names_an_operation_or_nothing_does() {
    for target in [
        None,
        Some(""),
        Some("PutImage"),
        Some("Other.PutImage"),
        Some("AmazonEC2ContainerRegistry_V20150921.putImage"),
        Some("AmazonEC2ContainerRegistry_V20150921."),
        Some("AmazonEC2ContainerRegistry_V20150921.DescribeImageTags"),
        Some("SpencerFrontendService.ListImages"),
    ] {
        // The target is judged before the content type and the body.
        let request = Request { target, content_type: Some("text/plain"), body: b"}".to_vec(), request_id: "r" };
        let failure = wire::accept(request).unwrap_err();
        assert_eq!(failure.code(), Code::Common(CommonError::UnknownOperation), "{target:?}");
        assert_eq!(failure.code().status(), 404);
        assert_eq!(failure.code().as_str(), "UnknownOperationException");
    }
    let accepted =
        accept_bytes(&format!("{PUBLIC}.DescribeImageTags"), br#"{"repositoryName":"app"}"#.to_vec()).unwrap();
    assert_eq!((accepted.service.name, accepted.operation.name), ("ecr-public", "DescribeImageTags"));
}

#[test]
fn every_operation_is_reached_by_its_target() {
    for service in layerhold_ecr::shape::services() {
        for operation in service.operations {
            let target = format!("{}.{}", service.target_prefix, operation.name);
            match accept_bytes(&target, b"{}".to_vec()) {
                Ok(accepted) => assert_eq!(accepted.operation.name, operation.name),
                Err(failure) => {
                    assert!(failure.message().ends_with("'Member must not be null'"), "{target}: {failure}")
                }
            }
        }
    }
}

#[test]
fn the_content_type_is_json_or_absent() {
    let with = |content_type| {
        let target = "AmazonEC2ContainerRegistry_V20150921.DescribeRegistry";
        wire::accept(Request { target: Some(target), content_type, body: b"}".to_vec(), request_id: "r" })
            .unwrap_err()
            .code()
    };
    for good in [
        None,
        Some(""),
        Some("application/x-amz-json-1.1"),
        Some("application/json"),
        Some("Application/X-AMZ-JSON-1.1"),
        Some("application/json; charset=utf-8"),
    ] {
        assert_eq!(with(good), Code::Common(CommonError::Serialization), "{good:?}: the body is what is wrong");
    }
    for bad in
        ["application/x-amz-json-1.0", "text/plain", "application/cbor", "application/x-www-form-urlencoded", "json"]
    {
        let code = with(Some(bad));
        assert_eq!((code.as_str(), code.status()), ("SerializationException", 415), "{bad}");
    }
}

#[test]
fn a_body_over_its_limit_is_refused_before_it_is_read() {
    let send = |operation: &str, len: usize| {
        let failure = accept_bytes(&format!("{PRIVATE}.{operation}"), vec![b' '; len]).unwrap_err();
        (failure.code().as_str(), failure.code().status())
    };
    for (operation, max) in
        [("ListImages", BODY_BYTES_MAX), ("PutImage", LARGE_BODY_BYTES_MAX), ("UploadLayerPart", LARGE_BODY_BYTES_MAX)]
    {
        assert_eq!(send(operation, max), ("SerializationException", 400));
        assert_eq!(send(operation, max + 1), ("RequestEntityTooLargeException", 413));
        assert_eq!(wire::body_bytes_max(Some(&format!("{PRIVATE}.{operation}"))), max);
    }
    assert_eq!(send("Nonsense", BODY_BYTES_MAX + 1).1, 413, "size comes before the target");
}

#[test]
fn what_is_not_json_of_the_right_types_is_a_serialization_error() {
    for body in [
        "{",
        "}",
        "[]",
        "null",
        "\"\"",
        "{} {}",
        "{\"repositoryName\":\"app\",}",
        "{\"repositoryName\":\"app\" \"maxResults\":1}",
        "{'repositoryName':'app'}",
        "\u{feff}{}",
        // types
        "{\"repositoryName\":1}",
        "{\"repositoryName\":[\"app\"]}",
        "{\"repositoryName\":{}}",
        "{\"repositoryName\":true}",
        "{\"repositoryName\":\"app\",\"maxResults\":\"1\"}",
        "{\"repositoryName\":\"app\",\"maxResults\":1.5}",
        "{\"repositoryName\":\"app\",\"maxResults\":1e-1}",
        "{\"repositoryName\":\"app\",\"maxResults\":2147483648}",
        "{\"repositoryName\":\"app\",\"maxResults\":true}",
        "{\"repositoryName\":\"app\",\"filter\":\"TAGGED\"}",
        "{\"repositoryName\":\"app\",\"filter\":{\"tagStatus\":1}}",
        // duplicates, of known members, of unknown ones, and inside what is ignored
        "{\"repositoryName\":\"app\",\"repositoryName\":\"app\"}",
        "{\"repositoryName\":\"app\",\"repositoryName\":null}",
        "{\"repositoryName\":\"app\",\"r\\u0065positoryName\":\"app\"}",
        "{\"repositoryName\":\"app\",\"x\":1,\"x\":1}",
        "{\"repositoryName\":\"app\",\"x\":[{\"y\":1,\"y\":2}]}",
        "{\"repositoryName\":\"app\",\"filter\":{\"tagStatus\":\"ANY\",\"tagStatus\":\"ANY\"}}",
    ] {
        let response = refused("ListImages", body);
        assert_eq!(response.status, 400, "{body}");
        assert!(
            text(&response)
                .starts_with(r#"{"__type":"SerializationException","message":"The request body could not be"#),
            "{body}"
        );
    }
    assert_eq!(
        text(&refused("ListImages", r#"{"repositoryName":"app","maxResults":1.5}"#)),
        r#"{"__type":"SerializationException","message":"The request body could not be read at byte 40: maxResults must be a whole number of 64 bits"}"#
    );
    for (operation, body) in [
        ("BatchDeleteImage", r#"{"repositoryName":"app","imageIds":{}}"#),
        ("BatchDeleteImage", r#"{"repositoryName":"app","imageIds":["v1"]}"#),
        ("DeleteRepository", r#"{"repositoryName":"app","force":"true"}"#),
        ("UploadLayerPart", r#"{"partFirstByte":1e30}"#),
        ("UploadLayerPart", r#"{"layerPartBlob":[1]}"#),
        ("UploadLayerPart", r#"{"layerPartBlob":"AAA"}"#),
        ("UploadLayerPart", r#"{"layerPartBlob":"AA\u00e9A"}"#),
        ("UploadLayerPart", r#"{"layerPartBlob":"AAAA","layerPartBlob":"AAAA"}"#),
    ] {
        assert!(text(&refused(operation, body)).contains("SerializationException"), "{body}");
    }
    let mut not_utf8 = br#"{"repositoryName":"app"}"#.to_vec();
    not_utf8[20] = 0xff;
    let failure = accept_bytes(&format!("{PRIVATE}.ListImages"), not_utf8).unwrap_err();
    assert_eq!(failure.code(), Code::Common(CommonError::Serialization));
}

#[test]
fn types_are_judged_before_constraints() {
    // Both members are wrong; the type comes first although the member comes later.
    let response = refused("ListImages", r#"{"repositoryName":"A","maxResults":"x"}"#);
    assert!(text(&response).contains("SerializationException"));
}

#[test]
fn depth_is_bounded_in_what_is_ignored_too() {
    let body = |depth: usize| format!(r#"{{"repositoryName":"app","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(accept("ListImages", &body(wire::DEPTH_MAX - 1)).is_ok());
    assert!(text(&refused("ListImages", &body(wire::DEPTH_MAX))).contains("SerializationException"));
    assert!(text(&refused("ListImages", &body(1_000_000))).contains("SerializationException"));
}

#[test]
fn absent_null_empty_and_unknown() {
    let parse = |body: &str| {
        accept("DescribeRepositories", body).unwrap().input.into_type::<DescribeRepositoriesRequest>().unwrap()
    };
    for body in [
        "",
        "{}",
        " {\r\n} ",
        r#"{"maxResults":null,"nextToken":null,"repositoryNames":null}"#,
        r#"{"new":{"a":[1,"x",null]}}"#,
    ] {
        assert_eq!(parse(body), DescribeRepositoriesRequest::default(), "{body}");
    }
    // Names are case-sensitive: another case is an unknown member.
    assert_eq!(parse(r#"{"MaxResults":"x"}"#), DescribeRepositoriesRequest::default());
    assert_eq!(
        text(&refused("ListImages", r#"{"repositoryName":null}"#)),
        invalid("repositoryName", "Member must not be null")
    );
}

#[test]
fn whole_numbers_may_be_written_with_point_and_exponent() {
    for (written, value) in [("100", 100), ("100.0", 100), ("1e2", 100), ("1.0E+2", 100), ("1000e-1", 100)] {
        let body = format!(r#"{{"maxResults":{written}}}"#);
        let input: DescribeRepositoriesRequest =
            accept("DescribeRepositories", &body).unwrap().input.into_type().unwrap();
        assert_eq!(input.max_results, Some(value), "{written}");
    }
}

#[test]
fn every_kind_of_constraint_has_its_sentence() {
    let digests = |n: usize, digest: &str| {
        let list = vec![format!("\"{digest}\""); n].join(",");
        format!(r#"{{"repositoryName":"app","uploadId":"{UPLOAD}","layerDigests":[{list}]}}"#)
    };
    let name_pattern =
        r"must satisfy regular expression '[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*'";
    let part = |members: &str| format!(r#"{{"repositoryName":"app","uploadId":"{UPLOAD}",{members}}}"#);
    let cases: Vec<(&str, String, &str, String)> = vec![
        // strings: length, then pattern
        ("ListImages", r#"{"repositoryName":"a"}"#.into(), "repositoryName", "Member must have length greater than or equal to 2".into()),
        ("ListImages", format!(r#"{{"repositoryName":"{}"}}"#, "a".repeat(257)), "repositoryName", "Member must have length less than or equal to 256".into()),
        ("ListImages", r#"{"repositoryName":"App"}"#.into(), "repositoryName", name_pattern.into()),
        ("ListImages", r#"{"repositoryName":"app\n"}"#.into(), "repositoryName", name_pattern.into()),
        ("ListImages", r#"{"registryId":"12345678901","repositoryName":"app"}"#.into(), "registryId", "must satisfy regular expression '[0-9]{12}'".into()),
        ("PutImage", r#"{"repositoryName":"app","imageManifest":""}"#.into(), "imageManifest", "Member must have length greater than or equal to 1".into()),
        ("PutImage", format!(r#"{{"repositoryName":"app","imageManifest":"{}"}}"#, "é".repeat(4_194_305)), "imageManifest", "Member must have length less than or equal to 4194304".into()),
        ("PutImage", format!(r#"{{"repositoryName":"app","imageManifest":"x","imageTag":"{}"}}"#, "a".repeat(301)), "imageTag", "Member must have length less than or equal to 300".into()),
        ("PutImage", r#"{"repositoryName":"app"}"#.into(), "imageManifest", "Member must not be null".into()),
        // the model's order of members decides which of two is reported
        ("PutImage", r#"{"imageManifest":""}"#.into(), "repositoryName", "Member must not be null".into()),
        // lists
        ("CompleteLayerUpload", digests(0, ""), "layerDigests", "Member must have length greater than or equal to 1".into()),
        ("CompleteLayerUpload", digests(101, "sha256:ab"), "layerDigests", "Member must have length less than or equal to 100".into()),
        ("CompleteLayerUpload", digests(200_000, "a:b"), "layerDigests", "Member must have length less than or equal to 100".into()),
        ("CompleteLayerUpload", digests(2, "sha256"), "layerDigests.1", "must satisfy regular expression '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'".into()),
        ("BatchCheckLayerAvailability", digests(1, &"a".repeat(1001)), "layerDigests.1", "Member must have length less than or equal to 1000".into()),
        ("BatchDeleteImage", r#"{"repositoryName":"app","imageIds":[{"imageTag":"a"},{"imageTag":""}]}"#.into(), "imageIds.2.imageTag", "Member must have length greater than or equal to 1".into()),
        ("BatchDeleteImage", r#"{"repositoryName":"app","imageIds":[{"imageTag":"a"},null]}"#.into(), "imageIds.2", "Member must not be null".into()),
        ("CreateRepository", format!(r#"{{"repositoryName":"app","tags":[{}]}}"#, vec!["{}"; 1001].join(",")), "tags", "Member must have length less than or equal to 1000".into()),
        // numbers
        ("ListImages", r#"{"repositoryName":"app","maxResults":0}"#.into(), "maxResults", "Member must have value greater than or equal to 1".into()),
        ("ListImages", r#"{"repositoryName":"app","maxResults":1001}"#.into(), "maxResults", "Member must have value less than or equal to 1000".into()),
        ("ListImageReferrers", r#"{"repositoryName":"app","subjectId":{"imageDigest":"x"},"maxResults":51}"#.into(), "maxResults", "Member must have value less than or equal to 50".into()),
        ("UploadLayerPart", part(r#""partFirstByte":-1,"partLastByte":0,"layerPartBlob":"AA==""#), "partFirstByte", "Member must have value greater than or equal to 0".into()),
        // enumerations
        ("ListImages", r#"{"repositoryName":"app","filter":{"tagStatus":"tagged"}}"#.into(), "filter.tagStatus", "Member must satisfy enum value set: [TAGGED, UNTAGGED, ANY]".into()),
        ("PutImageTagMutability", r#"{"repositoryName":"app","imageTagMutability":"OFF"}"#.into(), "imageTagMutability", "Member must satisfy enum value set: [MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]".into()),
        // inside structures
        ("ListImageReferrers", r#"{"repositoryName":"app","subjectId":{}}"#.into(), "subjectId.imageDigest", "Member must not be null".into()),
        ("CreateRepository", r#"{"repositoryName":"app","tags":[{"Key":"a","Value":"b"},{"Key":"a"}]}"#.into(), "tags.2.Value", "Member must not be null".into()),
        ("CreateRepository", r#"{"repositoryName":"app","imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"a b"}]}"#.into(), "imageTagMutabilityExclusionFilters.1.filter", "must satisfy regular expression '^[0-9a-zA-Z._*-]{1,128}$'".into()),
        ("CreateRepository", r#"{"repositoryName":"app","encryptionConfiguration":{}}"#.into(), "encryptionConfiguration.encryptionType", "Member must not be null".into()),
        // blobs count decoded bytes
        ("UploadLayerPart", part(&format!(r#""partFirstByte":0,"partLastByte":0,"layerPartBlob":"{}""#, STANDARD.encode(vec![0; 20_971_521]))), "layerPartBlob", "Member must have length less than or equal to 20971520".into()),
        ("UploadLayerPart", part(r#""partFirstByte":0,"partLastByte":0"#), "layerPartBlob", "Member must not be null".into()),
        ("UploadLayerPart", r#"{"repositoryName":"app","uploadId":"x"}"#.into(), "uploadId", "must satisfy regular expression '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}'".into()),
    ];
    for (operation, body, path, detail) in cases {
        let response = refused(operation, &body);
        let start = body.get(..80).unwrap_or(&body);
        assert_eq!((response.status, text(&response)), (400, invalid(path, &detail).as_str()), "{operation} {start}");
    }
}

#[test]
fn lengths_count_characters_and_bounds_are_inclusive() {
    let put = |count: usize| {
        let body = format!(r#"{{"repositoryName":"app","imageManifest":"{}"}}"#, "é".repeat(count));
        accept("PutImage", &body).map(|a| a.input.into_type::<PutImageRequest>().unwrap().image_manifest.len())
    };
    assert_eq!(put(4_194_304).unwrap(), 2 * 4_194_304);
    let name = |len: usize| accept("ListImages", &format!(r#"{{"repositoryName":"{}"}}"#, "a".repeat(len))).is_ok();
    assert!(name(2) && name(256) && !name(1) && !name(257));
    // The public service has its own bounds and its own grammar.
    let public = |name: &str| {
        accept_bytes(&format!("{PUBLIC}.DescribeImageTags"), format!(r#"{{"repositoryName":"{name}"}}"#).into_bytes())
    };
    assert!(public(&"a".repeat(205)).is_ok() && public(&"a".repeat(206)).is_err());
    assert!(public("a__b").is_err() && accept("ListImages", r#"{"repositoryName":"a__b"}"#).is_ok());
}

#[test]
fn resource_tags_out_of_range_have_their_own_exception_where_it_is_modelled() {
    let long = "a".repeat(300);
    let public = |operation: &str, body: String| {
        let failure = accept_bytes(&format!("{PUBLIC}.{operation}"), body.into_bytes()).unwrap_err();
        (failure.code(), failure.message().to_owned())
    };
    let (code, message) = public("CreateRepository", r#"{"repositoryName":"app","tags":[{"Key":""}]}"#.to_owned());
    assert_eq!(code, Code::Modelled(ErrorCode::InvalidTagParameterException));
    assert_eq!(
        message,
        "Invalid parameter at 'tags.1.Key' failed to satisfy constraint: 'Member must have length greater than or equal to 1'"
    );
    for body in [
        format!(r#"{{"resourceArn":"a","tags":[{{"Key":"{long}"}}]}}"#),
        format!(r#"{{"resourceArn":"a","tags":[{{"Key":"k","Value":"{long}"}}]}}"#),
    ] {
        assert_eq!(public("TagResource", body).0, Code::Modelled(ErrorCode::InvalidTagParameterException));
    }
    let body = format!(r#"{{"resourceArn":"a","tagKeys":["{long}"]}}"#);
    assert_eq!(public("UntagResource", body).0, Code::Modelled(ErrorCode::InvalidTagParameterException));
    // Too many of them is a constraint on the list, not on a tag.
    let body = format!(r#"{{"repositoryName":"app","tags":[{}]}}"#, vec!["{}"; 201].join(","));
    assert_eq!(public("CreateRepository", body).0, Code::Modelled(ErrorCode::InvalidParameterException));
}

#[test]
fn a_part_is_decoded_inside_the_request_and_keeps_its_buffer() {
    let data: Vec<u8> = (0..20_971_520_u32).map(|i| (i % 251) as u8).collect();
    for (name, encoded) in
        [("plain", STANDARD.encode(&data)), ("escaped slashes", STANDARD.encode(&data).replace('/', r"\/"))]
    {
        let body = format!(
            r#"{{"repositoryName":"team/app","uploadId":"{UPLOAD}","partFirstByte":0,"layerPartBlob":"{encoded}","partLastByte":20971519}}"#
        )
        .into_bytes();
        let place = body.as_ptr();
        let accepted = accept_bytes(&format!("{PRIVATE}.UploadLayerPart"), body).unwrap();
        let input: UploadLayerPartRequest = accepted.input.into_type().unwrap();
        assert_eq!((input.repository_name.as_str(), input.upload_id.as_str()), ("team/app", UPLOAD));
        assert_eq!((input.part_first_byte, input.part_last_byte), (0, 20_971_519));
        let blob = input.layer_part_blob.into_vec();
        assert_eq!(blob.as_ptr(), place, "{name}: the request's buffer became the part");
        assert!(blob == data, "{name}");
    }
}

#[test]
fn inputs_become_the_types() {
    let body = r#"{"repositoryName":"app","tags":[{"Key":"team","Value":"a"}],"imageTagMutability":"IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"dev-*"}],
        "imageScanningConfiguration":{"scanOnPush":true},"encryptionConfiguration":{"encryptionType":"AES256"},
        "catalogData":{"description":"a member of the public service only"}}"#;
    let input: CreateRepositoryRequest = accept("CreateRepository", body).unwrap().input.into_type().unwrap();
    assert_eq!(input.repository_name, "app");
    assert_eq!(input.image_tag_mutability, Some(ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(input.image_tag_mutability_exclusion_filters.unwrap()[0].filter, "dev-*");
    assert_eq!(input.image_scanning_configuration.unwrap().scan_on_push, Some(true));
    assert_eq!(input.tags.unwrap()[0].key.as_deref(), Some("team"));
    assert_eq!(input.catalog_data, None, "not a member of the private service's request");

    let body = br#"{"repositoryName":"app","catalogData":{"description":"d","logoImageBlob":"AAEC"}}"#.to_vec();
    let input: CreateRepositoryRequest =
        accept_bytes(&format!("{PUBLIC}.CreateRepository"), body).unwrap().input.into_type().unwrap();
    let catalog = input.catalog_data.unwrap();
    assert_eq!(
        (catalog.description.as_deref(), catalog.logo_image_blob.unwrap().as_ref()),
        (Some("d"), &[0_u8, 1, 2][..])
    );

    let body = r#"{"repositoryName":"app","imageIds":[{"imageTag":"v1"},{"imageDigest":"x"},{}]}"#;
    let input: BatchDeleteImageRequest = accept("BatchDeleteImage", body).unwrap().input.into_type().unwrap();
    assert_eq!(input.image_ids.len(), 3);
    assert_eq!(input.image_ids[0].image_tag.as_deref(), Some("v1"));

    // Escapes are resolved, and nothing else is touched: the manifest's digest depends on it.
    let body = r#"{"repositoryName":"app","imageManifest":"{\"a\":\"\u00e9\\u00e9\ud83d\ude00\"}\r\n "}"#;
    let input: PutImageRequest = accept("PutImage", body).unwrap().input.into_type().unwrap();
    assert_eq!(input.image_manifest, "{\"a\":\"é\\u00e9😀\"}\r\n ");
}

#[test]
fn errors_carry_what_the_models_add() {
    let failure = Failure::new(ErrorCode::InvalidLayerPartException, "m")
        .with("registryId", "000000000000")
        .with("lastValidByteReceived", 9_u64);
    let body = String::from_utf8(failure.body()).unwrap();
    assert_eq!(
        body,
        r#"{"__type":"InvalidLayerPartException","lastValidByteReceived":9,"message":"m","registryId":"000000000000"}"#
    );
    assert_eq!((failure.code().status(), Failure::internal().code().status()), (400, 500));
}
