//! The table of request lines: what each asks for, and how each wrong one is answered.

use http::{Method, StatusCode};

use crate::code::{ErrorCode, OciError};
use crate::query::PageQuery;
use crate::route::{Begin, Cost, Fetch, MountSource, RequestBody, Route, route};
use layerhold::{Algorithm, Digest, Reference, RepositoryName, Tag, UploadId};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "6cb64b8a-9378-4e33-8102-0304050607ff";

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{HEX}")).unwrap()
}

fn sha512() -> Digest {
    Digest::of(Algorithm::Sha512, b"")
}

fn id() -> UploadId {
    ID.parse().unwrap()
}

fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn all_of_it() -> PageQuery {
    PageQuery { items: None, last: None }
}

/// Reads `GET /v2/x?y`, in a registry without a prefix.
fn line(line: &str) -> Result<Route, OciError> {
    line_in(line, None)
}

fn line_in(line: &str, prefix: Option<&str>) -> Result<Route, OciError> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    route(&method.parse::<Method>().unwrap(), path, query, prefix)
}

#[track_caller]
fn refused(text: &str, status: StatusCode, code: ErrorCode) {
    match line(text) {
        Err(error) => assert_eq!((error.status(), error.code()), (status, code), "line={text}"),
        Ok(route) => panic!("{text} was taken for {route:?}"),
    }
}

#[test]
fn every_route_is_found() {
    let app = || name("library/app");
    let cases = [
        ("GET /v2/".to_owned(), Route::Version { fetch: Fetch::Body }),
        ("GET /v2".to_owned(), Route::Version { fetch: Fetch::Body }),
        ("HEAD /v2/".to_owned(), Route::Version { fetch: Fetch::Head }),
        ("GET /v2/_catalog".to_owned(), Route::Catalog { page: all_of_it(), fetch: Fetch::Body }),
        (
            "GET /v2/_catalog?n=3&last=library/app".to_owned(),
            Route::Catalog { page: PageQuery { items: Some(3), last: Some("library/app".into()) }, fetch: Fetch::Body },
        ),
        (
            "GET /v2/library/app/tags/list".to_owned(),
            Route::Tags { repository: app(), page: all_of_it(), fetch: Fetch::Body },
        ),
        (
            format!("GET /v2/library/app/referrers/sha256:{HEX}?artifactType=a/b+c&artifactType=d%2Fe"),
            Route::Referrers {
                repository: app(),
                subject: digest(),
                artifact_types: vec!["a/b+c".into(), "d/e".into()],
                page: all_of_it(),
                fetch: Fetch::Body,
            },
        ),
        (
            format!("GET /v2/library/app/blobs/sha256:{HEX}"),
            Route::ReadBlob { repository: app(), digest: digest(), fetch: Fetch::Body },
        ),
        (
            format!("HEAD /v2/library/app/blobs/sha256%3A{HEX}"),
            Route::ReadBlob { repository: app(), digest: digest(), fetch: Fetch::Head },
        ),
        (
            format!("GET /v2/library/app/blobs/{}", sha512()),
            Route::ReadBlob { repository: app(), digest: sha512(), fetch: Fetch::Body },
        ),
        (
            format!("DELETE /v2/library/app/blobs/sha256:{HEX}"),
            Route::DeleteBlob { repository: app(), digest: digest() },
        ),
        (
            "POST /v2/library/app/blobs/uploads/".to_owned(),
            Route::BeginUpload { repository: app(), begin: Begin::Session { algorithm: Algorithm::Sha256 } },
        ),
        (
            "POST /v2/library/app/blobs/uploads?digest-algorithm=sha512".to_owned(),
            Route::BeginUpload { repository: app(), begin: Begin::Session { algorithm: Algorithm::Sha512 } },
        ),
        (
            format!("POST /v2/library/app/blobs/uploads/?digest=sha256:{HEX}"),
            Route::BeginUpload { repository: app(), begin: Begin::Whole { digest: digest() } },
        ),
        (
            format!("POST /v2/library/app/blobs/uploads/?mount=sha256:{HEX}&from=other/app"),
            Route::BeginUpload {
                repository: app(),
                begin: Begin::Mount { digest: digest(), from: Some(MountSource::Here(name("other/app"))) },
            },
        ),
        (
            format!("POST /v2/library/app/blobs/uploads/?mount=sha256:{HEX}"),
            Route::BeginUpload { repository: app(), begin: Begin::Mount { digest: digest(), from: None } },
        ),
        (format!("PATCH /v2/library/app/blobs/uploads/{ID}"), Route::AppendUpload { repository: app(), upload: id() }),
        (
            format!("PUT /v2/library/app/blobs/uploads/{ID}?digest=sha256:{HEX}"),
            Route::CompleteUpload { repository: app(), upload: id(), digest: digest() },
        ),
        (format!("GET /v2/library/app/blobs/uploads/{ID}"), Route::UploadStatus { repository: app(), upload: id() }),
        (format!("DELETE /v2/library/app/blobs/uploads/{ID}"), Route::CancelUpload { repository: app(), upload: id() }),
        (
            "GET /v2/library/app/manifests/v1.0".to_owned(),
            Route::ReadManifest { repository: app(), reference: Reference::Tag(tag("v1.0")), fetch: Fetch::Body },
        ),
        (
            format!("HEAD /v2/library/app/manifests/sha256:{HEX}"),
            Route::ReadManifest { repository: app(), reference: Reference::Digest(digest()), fetch: Fetch::Head },
        ),
        (
            "PUT /v2/library/app/manifests/_latest".to_owned(),
            Route::PutManifest { repository: app(), expected: None, tags: vec![tag("_latest")] },
        ),
        (
            format!("PUT /v2/library/app/manifests/sha256:{HEX}?tag=a&tag=b&tag=a"),
            Route::PutManifest { repository: app(), expected: Some(digest()), tags: vec![tag("a"), tag("b")] },
        ),
        (
            "DELETE /v2/library/app/manifests/v1".to_owned(),
            Route::DeleteManifest { repository: app(), reference: Reference::Tag(tag("v1")) },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(line(&text).ok(), Some(expected), "line={text}");
    }
}

#[test]
fn names_may_hold_the_protocols_own_words() {
    for (text, expected) in [
        ("GET /v2/manifests/tags/list", "manifests"),
        ("GET /v2/a/manifests/tags/list", "a/manifests"),
        ("GET /v2/a/tags/list/tags/list", "a/tags/list"),
        ("GET /v2/a/blobs/uploads/tags/list", "a/blobs/uploads"),
        ("GET /v2/a/blobs/uploads/manifests/latest", "a/blobs/uploads"),
        ("POST /v2/a/manifests/blobs/uploads/", "a/manifests"),
        ("POST /v2/blobs/uploads/blobs/uploads/", "blobs/uploads"),
        ("GET /v2/v2/a/b/c/d/e/f/g/manifests/x", "v2/a/b/c/d/e/f/g"),
        ("GET /v2/a--b/c__d/manifests/x", "a--b/c__d"),
    ] {
        let route = line(text).unwrap_or_else(|error| panic!("line={text} error={error}"));
        assert_eq!(route.repository().map(RepositoryName::as_str), Some(expected), "line={text}");
    }
}

#[test]
fn unknown_paths_are_404() {
    for text in [
        "GET /",
        "GET /v1/",
        "GET /v2x/",
        "GET /v2/app",
        "GET /v2/app/",
        "GET /v2/app/tags",
        "GET /v2/app/tags/lists",
        "GET /v2/tags/list",
        "GET /v2/manifests/latest",
        "GET /v2/app/manifests/",
        "GET /v2/app/manifests/latest/",
        "GET /v2/app/blobs/",
        "GET /v2/app/referrers/",
        "GET /v2/_catalog/",
        "GET /v2/app/_catalog",
        "POST /v2/blobs/uploads/",
    ] {
        refused(text, StatusCode::NOT_FOUND, ErrorCode::Unsupported);
    }
}

#[test]
fn wrong_methods_are_405_and_say_which_would_do() {
    for (text, allowed) in [
        ("POST /v2/", "GET, HEAD"),
        ("DELETE /v2/_catalog", "GET, HEAD"),
        ("POST /v2/app/tags/list", "GET, HEAD"),
        ("PUT /v2/app/referrers/x", "GET, HEAD"),
        ("PUT /v2/app/blobs/x", "GET, HEAD, DELETE"),
        ("GET /v2/app/blobs/uploads/", "POST"),
        ("PUT /v2/app/blobs/uploads/", "POST"),
        ("POST /v2/app/blobs/uploads/x", "GET, PATCH, PUT, DELETE"),
        ("HEAD /v2/app/blobs/uploads/x", "GET, PATCH, PUT, DELETE"),
        ("POST /v2/app/manifests/latest", "GET, HEAD, PUT, DELETE"),
        ("BREW /v2/app/manifests/latest", "GET, HEAD, PUT, DELETE"),
    ] {
        refused(text, StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported);
        let response = line(text).unwrap_err().into_response();
        assert_eq!(response.headers["allow"], allowed, "line={text}");
    }
}

#[test]
fn bad_names_are_refused() {
    let long = "a".repeat(257);
    for name in ["UPPER", "-a", "a-", "a..b", "a___b", "a_/b", "a b", "é", "%2E%2E/a/", "_catalog/x", long.as_str()] {
        let text = format!("GET /v2/{name}/tags/list");
        refused(&text, StatusCode::BAD_REQUEST, ErrorCode::NameInvalid);
    }
}

#[test]
fn paths_are_taken_literally_or_refused() {
    for path in [
        "/v2//app/tags/list",
        "/v2/app//tags/list",
        "/v2/app/tags//list",
        "/v2/./app/tags/list",
        "/v2/app/../other/tags/list",
        "/v2/%2e%2e/app/tags/list",
        "/v2/app/manifests/..",
        "/v2/app/manifests/.",
        "/v2/app%2Fother/tags/list",
        "/v2/app/manifests/a%2fb",
        "/v2/app%00/tags/list",
        "/v2/app\0/tags/list",
        "/v2/app%/tags/list",
        "/v2/app%zz/tags/list",
        "/v2/app%ff/tags/list",
    ] {
        refused(&format!("GET {path}"), StatusCode::BAD_REQUEST, ErrorCode::NameInvalid);
    }
}

#[test]
fn bad_digests_are_refused() {
    let upper = HEX.to_uppercase();
    let short = HEX.get(1..).unwrap();
    for digest in [
        format!("sha256:{upper}"),
        format!("sha256:{short}"),
        format!("sha256:{HEX}0"),
        format!("SHA256:{HEX}"),
        format!("sha512:{HEX}"),
        format!("md5:{HEX}"),
        format!("sha256:{}g", HEX.get(..63).unwrap()),
        ":".to_owned(),
        "sha256:".to_owned(),
    ] {
        for text in [
            format!("GET /v2/app/blobs/{digest}"),
            format!("GET /v2/app/manifests/{digest}"),
            format!("PUT /v2/app/manifests/{digest}"),
            format!("GET /v2/app/referrers/{digest}"),
            format!("POST /v2/app/blobs/uploads/?digest={digest}"),
            format!("POST /v2/app/blobs/uploads/?mount={digest}&from=other"),
            format!("PUT /v2/app/blobs/uploads/{ID}?digest={digest}"),
        ] {
            refused(&text, StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid);
        }
    }
    refused(&format!("PUT /v2/app/blobs/uploads/{ID}"), StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid);
    refused("GET /v2/app/blobs/nonsense", StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid);
    refused("POST /v2/app/blobs/uploads/?digest-algorithm=md5", StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid);
}

#[test]
fn bad_tags_name_nothing_and_cannot_be_put() {
    let long = "a".repeat(129);
    for tag in [".hidden", "-dash", "a+b", "a b", "é", "%24", long.as_str()] {
        refused(&format!("GET /v2/app/manifests/{tag}"), StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown);
        refused(&format!("DELETE /v2/app/manifests/{tag}"), StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown);
        refused(&format!("PUT /v2/app/manifests/{tag}"), StatusCode::BAD_REQUEST, ErrorCode::TagInvalid);
        refused(
            &format!("PUT /v2/app/manifests/sha256:{HEX}?tag={tag}"),
            StatusCode::BAD_REQUEST,
            ErrorCode::TagInvalid,
        );
    }
    refused("PUT /v2/app/manifests/a?tag=b", StatusCode::BAD_REQUEST, ErrorCode::TagInvalid);
    let longest = "a".repeat(128);
    assert!(line(&format!("PUT /v2/app/manifests/{longest}")).is_ok());
}

#[test]
fn a_text_that_is_no_upload_is_an_unknown_upload() {
    for upload in ["x", "..%20", "6cb64b8a93784e3381020304050607ff", "sha256:00"] {
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let text = format!("{method} /v2/app/blobs/uploads/{upload}?digest=sha256:{HEX}");
            refused(&text, StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown);
        }
    }
}

#[test]
fn mounts_name_a_repository_or_are_refused() {
    let text = format!("POST /v2/app/blobs/uploads/?mount=sha256:{HEX}&from=UPPER");
    refused(&text, StatusCode::BAD_REQUEST, ErrorCode::NameInvalid);
}

#[test]
fn a_prefix_is_asked_for_and_stripped() {
    let route = line_in("GET /v2/local/library/app/tags/list", Some("local")).unwrap();
    assert_eq!(route.repository().map(RepositoryName::as_str), Some("library/app"));
    for text in [
        "GET /v2/library/app/tags/list",
        "GET /v2/local/tags/list",
        "GET /v2/localx/app/tags/list",
        "GET /v2/app/local/tags/list",
    ] {
        let error = line_in(text, Some("local")).unwrap_err();
        assert_eq!((error.status(), error.code()), (StatusCode::NOT_FOUND, ErrorCode::NameUnknown), "line={text}");
    }
    let error = line_in("GET /v2/local/UPPER/tags/list", Some("local")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NameInvalid);
    for (from, expected) in [
        ("local/library/app", MountSource::Here(name("library/app"))),
        ("library/app", MountSource::Elsewhere),
        ("localx/app", MountSource::Elsewhere),
    ] {
        let text = format!("POST /v2/local/app/blobs/uploads/?mount=sha256:{HEX}&from={from}");
        let Ok(Route::BeginUpload { begin: Begin::Mount { from: Some(found), .. }, .. }) =
            line_in(&text, Some("local"))
        else {
            panic!("line={text}");
        };
        assert_eq!(found, expected, "from={from}");
    }
}

#[test]
fn routes_say_how_they_take_their_body_and_what_they_cost() {
    for (text, body, cost) in [
        ("GET /v2/".to_owned(), RequestBody::None, Cost::Point),
        ("HEAD /v2/app/manifests/a".to_owned(), RequestBody::None, Cost::Point),
        ("PUT /v2/app/manifests/a".to_owned(), RequestBody::Collect, Cost::Blocking),
        (format!("HEAD /v2/app/blobs/sha256:{HEX}"), RequestBody::None, Cost::Point),
        (format!("GET /v2/app/blobs/sha256:{HEX}"), RequestBody::None, Cost::Blocking),
        ("POST /v2/app/blobs/uploads/".to_owned(), RequestBody::None, Cost::Blocking),
        (format!("POST /v2/app/blobs/uploads/?digest=sha256:{HEX}"), RequestBody::Stream, Cost::Blocking),
        (format!("POST /v2/app/blobs/uploads/?mount=sha256:{HEX}&from=bb"), RequestBody::None, Cost::Blocking),
        (format!("PATCH /v2/app/blobs/uploads/{ID}"), RequestBody::Stream, Cost::Blocking),
        (format!("PUT /v2/app/blobs/uploads/{ID}?digest=sha256:{HEX}"), RequestBody::Stream, Cost::Blocking),
    ] {
        let route = line(&text).unwrap();
        assert_eq!((route.body(), route.cost()), (body, cost), "line={text}");
    }
}

/// Goal: no request line panics or comes out with a name that its grammar refuses. Method: lines put together at random
/// from the pieces that the parser looks for, with a seed that is printed.
#[test]
fn random_request_lines_are_taken_or_refused() {
    const PIECES: [&str; 24] = [
        "v2",
        "_catalog",
        "tags",
        "list",
        "manifests",
        "blobs",
        "uploads",
        "referrers",
        "app",
        "library",
        "latest",
        "",
        ".",
        "..",
        "%2e",
        "%2F",
        "%00",
        "%",
        "UPPER",
        "é",
        "sha256:",
        ":",
        ID,
        HEX,
    ];
    const QUERIES: [&str; 8] = ["", "n=1", "n=x", "digest=sha256:", "mount=", "tag=a&tag=", "%", "&&=&"];
    let seed = 0x6f63_695f_726f_7574_u64;
    println!("seed={seed}");
    let mut state = seed;
    let mut next = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let mut taken = 0;
    for _ in 0..50_000 {
        let mut path = "/v2".to_owned();
        for _ in 0..next(7) {
            path.push('/');
            path.push_str(PIECES[next(PIECES.len())]);
        }
        let query = QUERIES[next(QUERIES.len())];
        let prefix = (next(2) == 0).then_some("library");
        match route(&methods[next(methods.len())], &path, Some(query), prefix) {
            Ok(route) => {
                taken += 1;
                if let Some(name) = route.repository() {
                    assert!(RepositoryName::parse(name.as_str()).is_ok());
                    assert!(path.contains(name.as_str()));
                }
            }
            Err(error) => assert!(error.status().is_client_error(), "path={path} error={error}"),
        }
    }
    assert!(taken > 100, "taken={taken}");
}
