//! Uploads: in one request, in two, in chunks, streamed, resumed, cancelled, mounted.

use crate::fixture::{Oci, noise};
use http::StatusCode;
use layerhold::change::{Event, RepositoryEvent};
use layerhold::{Algorithm, Digest};
use layerhold_oci::CreateOnPush;

#[test]
fn a_session_says_where_it_goes_on() {
    let oci = Oci::with("app");
    for target in ["/v2/app/blobs/uploads/", "/v2/app/blobs/uploads"] {
        let answer = oci.ask(&format!("POST {target}"), &[], b"").expect(StatusCode::ACCEPTED);
        let id = answer.header("docker-upload-uuid");
        assert_eq!(id.len(), 36);
        assert_eq!(answer.header("location"), format!("/v2/app/blobs/uploads/{id}"));
        assert_eq!(answer.header("range"), "0-0");
        assert_eq!(answer.header("content-length"), "0");
        assert_eq!(oci.get(answer.header("location")).expect(StatusCode::NO_CONTENT).header("range"), "0-0");
    }
}

#[test]
fn post_then_put() {
    let oci = Oci::with("app");
    let bytes = noise(100_000, 1);
    let digest = Digest::sha256(&bytes);
    let location = oci.begin("app");
    let answer = oci.ask(&format!("PUT {location}?digest={digest}"), &[("content-length", "100000")], &bytes);
    let answer = answer.expect(StatusCode::CREATED);
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(answer.header("location"), format!("/v2/app/blobs/{digest}"));
    assert_eq!(oci.get(answer.header("location")).expect(StatusCode::OK).body, bytes);
    // The session is over.
    oci.get(&location).refuse(404, "BLOB_UPLOAD_UNKNOWN");
    oci.ask(&format!("PUT {location}?digest={digest}"), &[], b"").refuse(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_single_post() {
    let oci = Oci::with("app");
    for (bytes, piece) in [(noise(300_000, 2), 65_536), (Vec::new(), 1), (b"x".to_vec(), 1)] {
        for digest in [Digest::sha256(&bytes), Digest::of(Algorithm::Sha512, &bytes)] {
            let line = format!("POST /v2/app/blobs/uploads/?digest={digest}");
            let answer = oci.ask(&line, &[], &bytes).expect(StatusCode::CREATED);
            assert_eq!(answer.header("location"), format!("/v2/app/blobs/{digest}"));
            let answer = oci.stream(&line, &[], &bytes, piece).expect(StatusCode::CREATED);
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).expect(StatusCode::OK).body, bytes);
        }
    }
}

#[test]
fn a_single_post_with_another_digest_leaves_nothing() {
    let oci = Oci::with("app");
    let digest = Digest::sha256(b"expected");
    let line = format!("POST /v2/app/blobs/uploads/?digest={digest}");
    oci.ask(&line, &[], b"received").refuse(400, "DIGEST_INVALID");
    oci.stream(&line, &[], b"received", 3).refuse(400, "DIGEST_INVALID");
    oci.get(&format!("/v2/app/blobs/{digest}")).refuse(404, "BLOB_UNKNOWN");
    oci.get(&format!("/v2/app/blobs/{}", Digest::sha256(b"received"))).refuse(404, "BLOB_UNKNOWN");
}

#[test]
fn chunks_in_their_order() {
    let oci = Oci::with("app");
    let bytes = noise(250_000, 3);
    let digest = Digest::sha256(&bytes);
    let mut location = oci.begin("app");
    for (first, last) in [(0, 99_999), (100_000, 100_000), (100_001, 199_999)] {
        let range = format!("{first}-{last}");
        let length = (last - first + 1).to_string();
        let headers = [("content-range", range.as_str()), ("content-length", length.as_str())];
        let answer = oci.stream(&format!("PATCH {location}"), &headers, &bytes[first..=last], 10_000);
        let answer = answer.expect(StatusCode::ACCEPTED);
        assert_eq!(answer.header("range"), format!("0-{last}"));
        assert!(!answer.header("docker-upload-uuid").is_empty());
        location = answer.header("location").to_owned();
        let status = oci.get(&location).expect(StatusCode::NO_CONTENT);
        assert_eq!(status.header("range"), format!("0-{last}"));
        assert_eq!(status.header("location"), location);
    }
    // The last chunk closes the session, declared or not.
    let answer = oci.ask(
        &format!("PUT {location}?digest={digest}"),
        &[("content-range", "200000-249999"), ("content-length", "50000")],
        &bytes[200_000..],
    );
    answer.expect(StatusCode::CREATED);
    assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
}

#[test]
fn a_chunk_out_of_order_or_again_is_416_and_harms_nothing() {
    let oci = Oci::with("app");
    let bytes = noise(3_000, 4);
    let location = oci.begin("app");
    let patch = format!("PATCH {location}");
    // The first chunk begins with 0.
    let answer = oci.ask(&patch, &[("content-range", "1000-1999")], &bytes[1_000..2_000]);
    assert_eq!(answer.header("range"), "0-0");
    answer.refuse(416, "BLOB_UPLOAD_INVALID");
    oci.ask(&patch, &[("content-range", "0-999")], &bytes[..1_000]).expect(StatusCode::ACCEPTED);
    for (range, chunk) in [("0-999", 0..1_000), ("2000-2999", 2_000..3_000), ("500-1499", 500..1_500)] {
        for streamed in [false, true] {
            let sequence = oci.sequence();
            let headers = [("content-range", range)];
            let body = &bytes[chunk.clone()];
            let answer =
                if streamed { oci.stream(&patch, &headers, body, 100) } else { oci.ask(&patch, &headers, body) };
            assert_eq!(answer.header("range"), "0-999", "range={range}");
            assert_eq!(answer.header("location"), location);
            answer.refuse(416, "BLOB_UPLOAD_INVALID");
            assert_eq!(oci.sequence(), sequence, "range={range}");
        }
        assert_eq!(oci.get(&location).header("range"), "0-999");
    }
    oci.ask(&patch, &[("content-range", "1000-2999")], &bytes[1_000..]).expect(StatusCode::ACCEPTED);
    let digest = Digest::sha256(&bytes);
    // A closing chunk out of order harms nothing either.
    let put = format!("PUT {location}?digest={digest}");
    oci.ask(&put, &[("content-range", "0-9")], &bytes[..10]).refuse(416, "BLOB_UPLOAD_INVALID");
    oci.ask(&put, &[], b"").expect(StatusCode::CREATED);
    assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
}

#[test]
fn lengths_that_differ_are_refused_and_change_nothing() {
    let oci = Oci::with("app");
    let location = oci.begin("app");
    let patch = format!("PATCH {location}");
    let bytes = noise(1_000, 5);
    for headers in [
        &[("content-range", "0-999"), ("content-length", "500")][..],
        &[("content-range", "0-499"), ("content-length", "1000")],
        &[("content-range", "0-998")],
        &[("content-range", "0-1000")],
    ] {
        oci.stream(&patch, headers, &bytes, 100).refuse(400, "SIZE_INVALID");
        assert_eq!(oci.get(&location).header("range"), "0-0", "headers={headers:?}");
    }
    oci.ask(&patch, &[("content-range", "0-9")], b"").refuse(400, "SIZE_INVALID");
    let put = format!("PUT {location}?digest={}", Digest::sha256(b""));
    oci.ask(&put, &[("content-range", "0-9")], b"").refuse(400, "SIZE_INVALID");
    for range in ["0", "a-b", "5-4", "bytes 0-999/*", "bytes=0-999", "-1", "0-"] {
        oci.ask(&patch, &[("content-range", range)], &bytes).refuse(400, "BLOB_UPLOAD_INVALID");
    }
    oci.ask(&patch, &[("content-range", "0-999")], &bytes).expect(StatusCode::ACCEPTED);
}

#[test]
fn a_body_that_outgrows_its_range_is_stopped_at_once() {
    let oci = Oci::with("app");
    let location = oci.begin("app");
    let headers = [("content-range", "0-99")].as_slice();
    let pieces = oci.pieces_taken(&format!("PATCH {location}"), headers, &[0; 1_000], 60);
    assert_eq!(pieces, 1);
    assert_eq!(oci.get(&location).header("range"), "0-0");
}

#[test]
fn a_streamed_body_needs_no_range() {
    let oci = Oci::with("app");
    let bytes = noise(2_000_000, 6);
    let location = oci.begin("app");
    let patch = format!("PATCH {location}");
    let answer = oci.stream(&patch, &[], &bytes[..1_500_000], 65_536).expect(StatusCode::ACCEPTED);
    assert_eq!(answer.header("range"), "0-1499999");
    let answer = oci.stream(&patch, &[], &bytes[1_500_000..], 65_536).expect(StatusCode::ACCEPTED);
    assert_eq!(answer.header("range"), "0-1999999");
    // A body of no bytes adds none.
    assert_eq!(oci.ask(&patch, &[], b"").expect(StatusCode::ACCEPTED).header("range"), "0-1999999");
    let digest = Digest::sha256(&bytes);
    oci.ask(&format!("PUT {location}?digest={digest}"), &[], b"").expect(StatusCode::CREATED);
    assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
}

#[test]
fn what_arrived_before_the_client_went_away_is_kept() {
    let oci = Oci::with("app");
    let bytes = noise(500_000, 7);
    let location = oci.begin("app");
    oci.lose(&format!("PATCH {location}"), &[], &bytes[..200_000]);
    let answer = oci.get(&location).expect(StatusCode::NO_CONTENT);
    assert_eq!(answer.header("range"), "0-199999");
    let digest = Digest::sha256(&bytes);
    oci.lose(&format!("PUT {location}?digest={digest}"), &[], &bytes[200_000..300_000]);
    assert_eq!(oci.get(&location).header("range"), "0-299999");
    oci.stream(&format!("PUT {location}?digest={digest}"), &[], &bytes[300_000..], 4_096).expect(StatusCode::CREATED);
    assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
}

#[test]
fn a_lost_single_post_leaves_nothing() {
    let oci = Oci::with("app");
    let digest = Digest::sha256(b"whole");
    oci.lose(&format!("POST /v2/app/blobs/uploads/?digest={digest}"), &[], b"who");
    oci.get(&format!("/v2/app/blobs/{digest}")).refuse(404, "BLOB_UNKNOWN");
    // Nobody knows the session's name, so it does not wait for its end.
    let events = oci.engine.changes(0, 100).unwrap();
    let ended = |event: &RepositoryEvent| matches!(event, RepositoryEvent::UploadEnded { .. });
    let found = events.iter().any(|change| matches!(&change.event, Event::Repository { event, .. } if ended(event)));
    assert!(found, "events={events:?}");
}

#[test]
fn a_wrong_digest_ends_the_session() {
    let oci = Oci::with("app");
    let location = oci.begin("app");
    let wrong = Digest::sha256(b"something else");
    oci.ask(&format!("PUT {location}?digest={wrong}"), &[], b"bytes").refuse(400, "DIGEST_INVALID");
    oci.get(&location).refuse(404, "BLOB_UPLOAD_UNKNOWN");
    oci.get(&format!("/v2/app/blobs/{wrong}")).refuse(404, "BLOB_UNKNOWN");
}

#[test]
fn any_algorithm_completes_any_session() {
    let oci = Oci::with("app");
    let bytes = noise(50_000, 8);
    for begun in ["", "?digest-algorithm=sha256", "?digest-algorithm=sha512"] {
        for algorithm in Algorithm::ALL {
            let answer = oci.ask(&format!("POST /v2/app/blobs/uploads/{begun}"), &[], b"");
            let location = answer.expect(StatusCode::ACCEPTED).header("location").to_owned();
            oci.ask(&format!("PATCH {location}"), &[], &bytes[..30_000]).expect(StatusCode::ACCEPTED);
            let digest = Digest::of(algorithm, &bytes);
            let answer = oci.ask(&format!("PUT {location}?digest={digest}"), &[], &bytes[30_000..]);
            assert_eq!(answer.expect(StatusCode::CREATED).header("docker-content-digest"), digest.to_string());
            assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
        }
    }
}

#[test]
fn a_cancelled_session_is_gone() {
    let oci = Oci::with("app");
    let location = oci.begin("app");
    oci.ask(&format!("PATCH {location}"), &[], b"bytes").expect(StatusCode::ACCEPTED);
    oci.ask(&format!("DELETE {location}"), &[], b"").expect(StatusCode::NO_CONTENT);
    for method in ["GET", "PATCH", "DELETE"] {
        oci.ask(&format!("{method} {location}"), &[], b"").refuse(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn a_session_belongs_to_its_repository_and_principal() {
    let oci = Oci::with("app");
    oci.create("other", &Default::default());
    let alice = oci.by("alice");
    let location = alice.begin("app");
    let digest = Digest::sha256(b"");
    for (who, location) in [(oci.by("bob"), location.clone()), (alice, location.replace("/app/", "/other/"))] {
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let line = format!("{method} {location}?digest={digest}");
            who.ask(&line, &[], b"").refuse(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    oci.by("alice").get(&location).expect(StatusCode::NO_CONTENT);
}

#[test]
fn a_mount_is_201_where_the_source_links_the_blob_and_202_otherwise() {
    let oci = Oci::with("app");
    oci.create("source", &Default::default());
    oci.create("third", &Default::default());
    let digest = oci.push_blob("source", b"shared layer");
    let unknown = Digest::sha256(b"nobody has this");
    for query in [
        format!("mount={digest}"),
        format!("mount={digest}&from=third"),
        format!("mount={digest}&from=missing/repository"),
        format!("mount={unknown}&from=source"),
        format!("mount={digest}&from=app"),
    ] {
        let answer = oci.ask(&format!("POST /v2/app/blobs/uploads/?{query}"), &[], b"");
        let answer = answer.expect(StatusCode::ACCEPTED);
        assert_eq!(answer.header("range"), "0-0", "query={query}");
        oci.get(answer.header("location")).expect(StatusCode::NO_CONTENT);
    }
    oci.get(&format!("/v2/app/blobs/{digest}")).refuse(404, "BLOB_UNKNOWN");
    let answer = oci.ask(&format!("POST /v2/app/blobs/uploads/?mount={digest}&from=source"), &[], b"");
    let answer = answer.expect(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/app/blobs/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, b"shared layer");
}

#[test]
fn a_repository_that_is_missing_has_no_uploads() {
    let oci = Oci::new().adapted(|adapter| adapter.with_create_on_push(CreateOnPush::Never));
    let digest = Digest::sha256(b"");
    let id = "6cb64b8a-9378-4e33-8102-0304050607ff";
    for line in [
        "POST /v2/app/blobs/uploads/".to_owned(),
        format!("POST /v2/app/blobs/uploads/?digest={digest}"),
        format!("POST /v2/app/blobs/uploads/?mount={digest}&from=other"),
        format!("GET /v2/app/blobs/uploads/{id}"),
        format!("PATCH /v2/app/blobs/uploads/{id}"),
        format!("PUT /v2/app/blobs/uploads/{id}?digest={digest}"),
        format!("DELETE /v2/app/blobs/uploads/{id}"),
    ] {
        oci.ask(&line, &[], b"").refuse(404, "NAME_UNKNOWN");
    }
}

#[test]
fn a_blob_over_the_limit_is_denied() {
    let mut oci = Oci::with("app");
    let mut limits = oci.registry.limits().clone();
    limits.blob_bytes = 1_000;
    oci.adapter = layerhold_oci::Adapter::new(oci.registry.clone().with_limits(limits));
    let bytes = noise(1_001, 9);
    let digest = Digest::sha256(&bytes);
    oci.ask(&format!("POST /v2/app/blobs/uploads/?digest={digest}"), &[], &bytes).refuse(403, "DENIED");
    let location = oci.begin("app");
    oci.stream(&format!("PATCH {location}"), &[], &bytes, 100).refuse(403, "DENIED");
    oci.get(&location).expect(StatusCode::NO_CONTENT);
    oci.push_blob("app", &bytes[..1_000]);
}
