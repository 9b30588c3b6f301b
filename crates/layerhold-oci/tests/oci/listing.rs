//! Listings: tags, catalog, referrers, page by page.

use crate::fixture::{OCI_MANIFEST, Oci, descriptor, image};
use http::StatusCode;
use layerhold::manifest::PutManifest;
use layerhold::{Digest, RepositorySettings, Tag};
use serde_json::{Value, json};

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// Every page from `target` on, by following the links; gives the items of each.
fn pages(oci: &Oci, target: &str, items: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(target.to_owned());
    while let Some(target) = next {
        let answer = oci.get(&target).expect(StatusCode::OK);
        pages.push(strings(&answer.json()[items]));
        next = answer.next();
        assert!(pages.len() < 1_000, "the links go on for ever");
    }
    pages
}

#[test]
fn tags_come_in_byte_order() {
    let oci = Oci::with("app");
    assert_eq!(oci.get("/v2/app/tags/list").expect(StatusCode::OK).json(), json!({ "name": "app", "tags": [] }));
    let (bytes, _) = oci.push_image("app", "b", b"layer");
    for tag in ["a", "C", "1.10", "1.9", "_x", "b-1", "b.1"] {
        oci.put("app", tag, OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    }
    let sorted = ["1.10", "1.9", "C", "_x", "a", "b", "b-1", "b.1"];
    let answer = oci.get("/v2/app/tags/list").expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.next().is_none());
    assert_eq!(answer.json(), json!({ "name": "app", "tags": sorted }));
    // Every size of page gives the same tags.
    for n in 1..=9 {
        let pages = pages(&oci, &format!("/v2/app/tags/list?n={n}"), "tags");
        assert!(pages.iter().all(|page| page.len() <= n));
        assert_eq!(pages.concat(), sorted, "n={n}");
    }
    // `last` need not exist.
    let answer = oci.get("/v2/app/tags/list?last=B&n=2").expect(StatusCode::OK);
    assert_eq!(strings(&answer.json()["tags"]), ["C", "_x"]);
    assert_eq!(answer.next().as_deref(), Some("/v2/app/tags/list?n=2&last=_x"));
    assert_eq!(strings(&oci.get("/v2/app/tags/list?last=zzz").json()["tags"]), [""; 0]);
    assert_eq!(strings(&oci.get("/v2/app/tags/list?last=%20%22%2F&n=1").json()["tags"]), ["1.10"]);
    // A page of nothing names no next one.
    let answer = oci.get("/v2/app/tags/list?n=0").expect(StatusCode::OK);
    assert_eq!((strings(&answer.json()["tags"]).len(), answer.next()), (0, None));
}

#[test]
fn page_sizes_that_are_no_numbers_are_refused() {
    let oci = Oci::with("app");
    for n in ["", "-1", "x", "1.5"] {
        for target in ["/v2/app/tags/list", "/v2/_catalog"] {
            oci.get(&format!("{target}?n={n}")).refuse(400, "PAGINATION_NUMBER_INVALID");
        }
    }
    for n in ["1000000", "9223372036854775808", "99999999999999999999999"] {
        oci.get(&format!("/v2/app/tags/list?n={n}")).expect(StatusCode::OK);
        oci.get(&format!("/v2/_catalog?n={n}")).expect(StatusCode::OK);
    }
}

#[test]
fn a_page_of_tags_has_a_thousand_at_the_most() {
    let oci = Oci::with("app");
    let (bytes, _) = oci.push_image("app", "t0000", b"layer");
    let repository = oci.registry.repository(&crate::fixture::name("app"));
    // The manifest with another annotation for each thousand, because a manifest has so many tags at the most.
    for chunk in 0..13 {
        let mut put = PutManifest::new(match chunk {
            0 => bytes.clone(),
            chunk => image(b"layer", &json!({ "annotations": { "chunk": chunk.to_string() } })),
        });
        put.tags = (0..100).map(|at| Tag::parse(&format!("t{:04}", chunk * 100 + at)).unwrap()).collect();
        repository.put_manifest(&put, &oci.call).unwrap();
    }
    for target in ["/v2/app/tags/list", "/v2/app/tags/list?n=5000"] {
        let pages = pages(&oci, target, "tags");
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 300]);
    }
}

#[test]
fn tags_that_only_the_other_protocol_can_set_are_left_out() {
    let oci = Oci::with("app");
    let bytes = oci.image("app", b"layer");
    let mut put = PutManifest::new(bytes);
    put.tags = [".hidden", "-dash", "plain", "zz"].map(|tag| Tag::parse(tag).unwrap()).to_vec();
    oci.registry.repository(&crate::fixture::name("app")).put_manifest(&put, &oci.call).unwrap();
    assert_eq!(strings(&oci.get("/v2/app/tags/list").json()["tags"]), ["plain", "zz"]);
    for n in 1..4 {
        assert_eq!(pages(&oci, &format!("/v2/app/tags/list?n={n}"), "tags").concat(), ["plain", "zz"]);
    }
}

/// Goal: a run of tags that are left out, longer than one request looks at, ends neither the listing nor its links.
#[test]
fn a_long_run_of_tags_that_are_left_out_is_passed_over() {
    let oci = Oci::with("app");
    let mut put = PutManifest::new(oci.image("app", b"layer"));
    put.tags = (0..90).map(|at| Tag::parse(&format!("-{at:02}")).unwrap()).collect();
    put.tags.extend(["plain", "zz"].map(|tag| Tag::parse(tag).unwrap()));
    oci.registry.repository(&crate::fixture::name("app")).put_manifest(&put, &oci.call).unwrap();
    for (n, at_least) in [(1, 5), (3, 2), (100, 1)] {
        let pages = pages(&oci, &format!("/v2/app/tags/list?n={n}"), "tags");
        assert_eq!(pages.concat(), ["plain", "zz"], "n={n}");
        assert!(pages.len() >= at_least, "n={n} pages={}", pages.len());
    }
}

#[test]
fn tags_of_a_repository_that_is_missing() {
    let oci = Oci::new();
    oci.get("/v2/app/tags/list").refuse(404, "NAME_UNKNOWN");
    oci.get("/v2/app/tags/list?n=0").refuse(404, "NAME_UNKNOWN");
}

#[test]
fn the_catalog() {
    let oci = Oci::new();
    assert_eq!(oci.get("/v2/_catalog").expect(StatusCode::OK).json(), json!({ "repositories": [] }));
    let sorted = ["app", "app/a", "app/b", "library/app", "z"];
    for name in ["library/app", "z", "app/b", "app", "app/a"] {
        oci.create(name, &RepositorySettings::default());
    }
    assert_eq!(strings(&oci.get("/v2/_catalog").json()["repositories"]), sorted);
    for n in 1..=6 {
        let pages = pages(&oci, &format!("/v2/_catalog?n={n}"), "repositories");
        assert!(pages.iter().all(|page| page.len() <= n));
        assert_eq!(pages.concat(), sorted, "n={n}");
    }
    let answer = oci.get("/v2/_catalog?last=app/aa&n=1").expect(StatusCode::OK);
    assert_eq!(strings(&answer.json()["repositories"]), ["app/b"]);
    assert_eq!(answer.next().as_deref(), Some("/v2/_catalog?n=1&last=app%2Fb"));
    let answer = oci.get("/v2/_catalog?n=0").expect(StatusCode::OK);
    assert_eq!((strings(&answer.json()["repositories"]).len(), answer.next()), (0, None));
    oci.get("/v2/_catalog?last=UPPER").refuse(400, "NAME_INVALID");
}

/// Pushes an artifact about `subject`; gives its digest.
fn artifact(oci: &Oci, subject: &[u8], artifact_type: &str, number: usize) -> Digest {
    artifact_with(oci, subject, artifact_type, &json!({ "number": number.to_string() }))
}

fn artifact_with(oci: &Oci, subject: &[u8], artifact_type: &str, annotations: &Value) -> Digest {
    oci.push_blob("app", b"{}");
    oci.push_blob("app", b"artifact");
    let bytes = image(
        b"artifact",
        &json!({
            "artifactType": artifact_type,
            "subject": descriptor(OCI_MANIFEST, subject),
            "annotations": annotations,
        }),
    );
    let digest = Digest::sha256(&bytes);
    oci.put("app", &digest.to_string(), OCI_MANIFEST, &bytes).expect(StatusCode::CREATED);
    digest
}

#[test]
fn referrers() {
    let oci = Oci::with("app");
    let subject = Digest::sha256(b"subject");
    let target = format!("/v2/app/referrers/{subject}");
    let empty = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] });
    let answer = oci.get(&target).expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(answer.json(), empty);
    let sbom = artifact(&oci, b"subject", "application/sbom+json", 1);
    let signature = artifact(&oci, b"subject", "application/signature", 2);
    artifact(&oci, b"another", "application/signature", 3);
    let answer = oci.get(&target).expect(StatusCode::OK);
    assert!(answer.headers.get("oci-filters-applied").is_none());
    let mut found: Vec<String> =
        answer.json()["manifests"].as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().into()).collect();
    found.sort();
    let mut expected = vec![sbom.to_string(), signature.to_string()];
    expected.sort();
    assert_eq!(found, expected);
    for filter in ["application/sbom+json", "application%2Fsbom%2Bjson"] {
        let answer = oci.get(&format!("{target}?artifactType={filter}")).expect(StatusCode::OK);
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        let manifests = answer.json()["manifests"].as_array().unwrap().clone();
        assert_eq!(manifests.len(), 1);
        assert_eq!(manifests[0]["digest"], sbom.to_string());
        assert_eq!(manifests[0]["artifactType"], "application/sbom+json");
        assert_eq!(manifests[0]["mediaType"], OCI_MANIFEST);
        assert_eq!(manifests[0]["annotations"]["number"], "1");
        assert!(manifests[0]["size"].as_u64().unwrap() > 0);
    }
    let answer = oci.get(&format!("{target}?artifactType=none/such")).expect(StatusCode::OK);
    assert_eq!(answer.json(), empty);
    assert_eq!(answer.header("oci-filters-applied"), "artifactType");
    // A repository that is missing has no referrers; 404 would say that the registry cannot tell.
    assert_eq!(oci.get(&format!("/v2/missing/referrers/{subject}")).expect(StatusCode::OK).json(), empty);
    oci.get("/v2/app/referrers/sha256:abc").refuse(400, "DIGEST_INVALID");
    oci.get("/v2/app/referrers/latest").refuse(400, "DIGEST_INVALID");
}

#[test]
fn referrers_come_in_pages() {
    let oci = Oci::with("app");
    let subject = Digest::sha256(b"subject");
    let mut expected: Vec<String> = (0..70)
        .map(|number| {
            let artifact_type = if number % 2 == 0 { "even/type" } else { "odd/type" };
            artifact(&oci, b"subject", artifact_type, number).to_string()
        })
        .collect();
    expected.sort();
    for (query, wanted) in [("", 70), ("?n=1", 70), ("?n=7", 70), ("?n=33", 70), ("?n=9&artifactType=even/type", 35)] {
        let mut found = Vec::new();
        let mut next = Some(format!("/v2/app/referrers/{subject}{query}"));
        let mut rounds = 0;
        while let Some(target) = next {
            let answer = oci.get(&target).expect(StatusCode::OK);
            if query.contains("artifactType") {
                assert_eq!(answer.header("oci-filters-applied"), "artifactType");
            }
            for manifest in answer.json()["manifests"].as_array().unwrap() {
                found.push(manifest["digest"].as_str().unwrap().to_owned());
            }
            next = answer.next();
            rounds += 1;
            assert!(rounds < 200, "the links go on for ever");
        }
        found.sort();
        assert_eq!(found.len(), wanted, "query={query}");
        found.dedup();
        assert_eq!(found.len(), wanted, "query={query}");
        if wanted == 70 {
            assert_eq!(found, expected);
        }
    }
    let target = format!("/v2/app/referrers/{subject}");
    // What no link gave would begin at the first page again, for ever.
    for last in ["xyz", "00", "7368613235363a", "sha256:abc", ""] {
        oci.get(&format!("{target}?n=1&last={last}")).refuse(400, "UNSUPPORTED");
    }
    let answer = oci.get(&format!("{target}?n=0&last={subject}")).expect(StatusCode::OK);
    assert_eq!((answer.json()["manifests"].as_array().map(Vec::len), answer.next()), (Some(0), None));
}

/// Goal: what one page holds in memory is bounded by bytes as well, however long the annotations are.
#[test]
fn referrers_with_long_annotations_come_one_by_one() {
    let oci = Oci::with("app");
    let subject = Digest::sha256(b"subject");
    let mut expected: Vec<String> = (0..8)
        .map(|number| {
            let note = number.to_string().repeat(3 << 20);
            artifact_with(&oci, b"subject", "note/long", &json!({ "note": note })).to_string()
        })
        .collect();
    expected.sort();
    let target = format!("/v2/app/referrers/{subject}");
    for query in ["", "?artifactType=note/long"] {
        let (mut found, mut next) = (Vec::new(), Some(format!("{target}{query}")));
        while let Some(target) = next {
            let answer = oci.get(&target).expect(StatusCode::OK);
            let manifests = answer.json()["manifests"].as_array().unwrap().clone();
            assert!(manifests.len() <= 1 && answer.body.len() <= 4 << 20, "{} {}", manifests.len(), answer.body.len());
            found.extend(manifests.iter().map(|manifest| manifest["digest"].as_str().unwrap().to_owned()));
            next = answer.next();
        }
        assert_eq!(found, expected, "query={query}");
    }
    let route = oci.adapter.route(&http::Method::GET, &target, None).unwrap();
    assert_eq!(route.cost(), layerhold_oci::Cost::Blocking);
}

/// Goal: a filter that passes over most rows ends a request after a bounded number of rounds, and its link goes on.
#[test]
fn a_filter_that_matches_little_ends_its_pages_early() {
    let mut oci = Oci::with("app");
    let mut limits = oci.registry.limits().clone();
    limits.page_rows = 2;
    oci.adapter = layerhold_oci::Adapter::new(oci.registry.clone().with_limits(limits));
    let subject = Digest::sha256(b"subject");
    for number in 0..70 {
        artifact(&oci, b"subject", if number % 2 == 0 { "even/type" } else { "odd/type" }, number);
    }
    for (filter, wanted) in [("even/type", 35), ("none/such", 0)] {
        let (mut found, mut pages) = (0, 0);
        let mut next = Some(format!("/v2/app/referrers/{subject}?artifactType={filter}"));
        while let Some(target) = next {
            let answer = oci.get(&target).expect(StatusCode::OK);
            let items = answer.json()["manifests"].as_array().unwrap().len();
            assert!(items <= 32, "no more than the rows that were looked at: {items}");
            (found, pages, next) = (found + items, pages + 1, answer.next());
        }
        assert_eq!((found, pages), (wanted, 3), "filter={filter}");
    }
}
