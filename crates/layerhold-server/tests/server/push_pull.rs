//! Pushing and pulling over sockets: framing, streams, ranges, registries, download URLs.

use std::io::Write;

use serde_json::json;

use crate::client::{Client, digest, manifest, noise, with_digest};
use crate::harness::Server;

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    (dir, server)
}

#[test]
fn blobs_of_every_size_come_back_byte_for_byte() {
    let (_dir, server) = server();
    let mut client = server.client();
    for (seed, len) in [0, 1, 4096, 65_536, 65_537, 262_144, 262_145, 5 << 20].into_iter().enumerate() {
        let bytes = noise(seed as u64 + 1, len);
        let digest = client.push_blob("a/b", &bytes);
        let pulled = client.get(&format!("/v2/a/b/blobs/{digest}"));
        assert_eq!((pulled.status, pulled.complete), (200, true));
        assert!(pulled.body == bytes, "len={len}");
        let head = client.call("HEAD", &format!("/v2/a/b/blobs/{digest}"), &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some(len.to_string().as_str())));
    }
}

#[test]
fn a_layer_comes_in_pieces_however_they_are_framed() {
    let (_dir, server) = server();
    let mut client = server.client();
    let bytes = noise(7, 3_000_000);
    let location = client.begin("a");
    let (first, rest) = bytes.split_at(1_000_000);
    assert_eq!(client.call("PATCH", &location, &[("Content-Range", "0-999999")], first).status, 202);
    let again = client.call("PATCH", &location, &[("Content-Range", "0-999999")], first);
    assert_eq!((again.status, again.header("range")), (416, Some("0-999999")));

    // Chunks, whose sizes are nobody's business.
    client.send_head("PATCH", &location, &[("Transfer-Encoding", "chunked")]);
    for chunk in rest.chunks(77_777) {
        client.send(format!("{:x}\r\n", chunk.len()).as_bytes());
        client.send(chunk);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    let sent = client.reply("PATCH");
    assert_eq!((sent.status, sent.header("range")), (202, Some("0-2999999")));
    let digest = digest(&bytes);
    assert_eq!(client.call("PUT", &with_digest(&location, &digest), &[], b"").status, 201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
}

#[test]
fn a_wrong_digest_is_refused_whether_the_body_is_collected_or_streamed() {
    let (_dir, server) = server();
    let mut client = server.client();
    for len in [100, 1_000_000] {
        let location = client.begin("a");
        let refused = client.call("PUT", &with_digest(&location, &digest(b"something else")), &[], &noise(1, len));
        assert_eq!((refused.status, refused.code().as_str()), (400, "DIGEST_INVALID"), "len={len}");
        let pulled = client.get(&format!("/v2/a/blobs/{}", digest(&noise(1, len))));
        assert_eq!(pulled.status, 404);
    }
}

#[test]
fn ranges_are_cut_out_of_the_middle_of_files() {
    let (_dir, server) = server();
    let mut client = server.client();
    let bytes = noise(3, 1_000_000);
    let path = format!("/v2/a/blobs/{}", client.push_blob("a", &bytes));
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=999999-", 999_999, 1_000_000),
        ("bytes=-70000", 930_000, 1_000_000),
        ("bytes=262143-262144", 262_143, 262_145),
        ("bytes=100000-899999", 100_000, 900_000),
    ] {
        let part = client.call("GET", &path, &[("Range", range)], b"");
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/1000000", to - 1).as_str()));
        assert!(part.body == bytes[from..to], "{range}");
    }
    assert_eq!(client.call("GET", &path, &[("Range", "bytes=1000000-")], b"").status, 416);
}

#[test]
fn requests_may_be_sent_ahead() {
    let (_dir, server) = server();
    let mut client = server.client();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    client.socket.write_all(head.repeat(50).as_bytes()).unwrap();
    for _ in 0..50 {
        assert_eq!(client.reply("GET").text(), "ok\n");
    }
}

#[test]
fn an_image_goes_in_and_comes_out_by_tag_and_digest() {
    let (_dir, server) = server();
    let mut client = server.client();
    let (config, layer) = (b"{}".to_vec(), noise(9, 300_000));
    client.push_blob("team/app", &config);
    client.push_blob("team/app", &layer);
    let manifest = manifest(&config, &[&layer]);
    let pushed = client.push_manifest("team/app", "v1", &manifest);
    assert_eq!(pushed.status, 201, "{pushed:?}");
    let digest = digest(&manifest);
    assert_eq!(pushed.header("docker-content-digest"), Some(digest.as_str()));
    for reference in ["v1", &digest] {
        let pulled = client.get(&format!("/v2/team/app/manifests/{reference}"));
        assert_eq!((pulled.status, pulled.body.as_slice()), (200, manifest.as_slice()));
        let head = client.call("HEAD", &format!("/v2/team/app/manifests/{reference}"), &[], b"");
        assert_eq!((head.status, head.header("docker-content-digest")), (200, Some(digest.as_str())));
    }
    assert_eq!(client.get("/v2/team/app/tags/list").json(), json!({"name": "team/app", "tags": ["v1"]}));
    let missing = client.push_manifest("team/app", "v2", &crate::client::manifest(&config, &[b"nowhere"]));
    assert_eq!((missing.status, missing.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
}

#[test]
fn the_host_names_the_registry() {
    let (_dir, server) = server();
    let at = |host: &str| server.client().with_host(host);
    let private = at("000000000000.dkr.ecr.us-east-1.localhost").push_blob("app", b"private");
    assert_eq!(server.client().get(&format!("/v2/app/blobs/{private}")).body, b"private");

    let public = at("public.localhost").push_blob("local/app", b"public");
    for (mut client, path, status) in [
        (server.public_client(), format!("/v2/local/app/blobs/{public}"), 200),
        (at("public.localhost"), format!("/v2/local/app/blobs/{public}"), 200),
        (at("public.localhost"), format!("/v2/local/app/blobs/{private}"), 404),
        (at("public.localhost"), format!("/v2/other/app/blobs/{public}"), 404),
        (server.client(), format!("/v2/app/blobs/{public}"), 404),
        (server.public_client().with_host("000000000000.localhost"), format!("/v2/app/blobs/{private}"), 200),
    ] {
        assert_eq!(client.get(&path).status, status, "{path}");
    }
    let unknown = at("999999999999.dkr.ecr.us-east-1.localhost").get(&format!("/v2/app/blobs/{private}"));
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "NAME_UNKNOWN"));
}

#[test]
fn a_push_makes_its_repository_only_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    for policy in ["never", "templates"] {
        let server = Server::start(&dir, &["--create-on-push", policy]);
        let refused = server.client().call("POST", "/v2/a/blobs/uploads/", &[], b"");
        assert_eq!((refused.status, refused.code().as_str()), (404, "NAME_UNKNOWN"));
        let (status, _) = server.client().ecr("CreateRepository", &json!({"repositoryName": policy}));
        assert_eq!(status, 200);
        server.client().push_blob(policy, b"bytes");
        server.stop();
    }
}

/// Pushes a layer, and the path of a download URL for it.
fn granted(client: &mut Client, bytes: &[u8]) -> String {
    let digest = client.push_blob("app", bytes);
    // ECR gives out no layer that no image names.
    client.push_blob("app", b"{}");
    assert_eq!(client.push_manifest("app", "v1", &manifest(b"{}", &[bytes])).status, 201);
    let (status, answer) =
        client.ecr("GetDownloadUrlForLayer", &json!({"repositoryName": "app", "layerDigest": digest}));
    assert_eq!(status, 200, "{answer}");
    answer["downloadUrl"].as_str().unwrap().to_owned()
}

#[test]
fn a_download_url_reads_one_blob_and_stays_out_of_the_log() {
    let (_dir, server) = server();
    let mut client = server.client();
    let bytes = noise(4, 700_000);
    let url = granted(&mut client, &bytes);
    assert!(url.starts_with(&format!("http://{}/download/", server.address)), "{url}");

    let pulled = client.get(&url);
    assert!(pulled.status == 200 && pulled.body == bytes);
    let head = client.call("HEAD", &url, &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("700000")));
    let part = client.call("GET", &url, &[("Range", "bytes=1000-600000")], b"");
    assert!(part.status == 206 && part.body == bytes[1000..=600_000]);
    assert_eq!(client.call("GET", &url, &[("Range", "bytes=700000-")], b"").status, 416);
    assert_eq!(client.call("DELETE", &url, &[], b"").status, 405);

    let token = url.rsplit('/').next().unwrap();
    let mut tampered = token.to_owned();
    let last = if tampered.pop() == Some('0') { '1' } else { '0' };
    tampered.push(last);
    for wrong in ["", "x", &tampered, &token.to_uppercase(), &token[..token.len() - 2]] {
        assert_eq!(client.get(&format!("/download/{wrong}")).status, 403, "{wrong}");
    }
    assert!(server.log().contains("/download/(token)"));
    assert!(!server.log().contains(token));
}

#[test]
fn every_answer_bears_the_id_that_the_log_gives_it() {
    let (_dir, server) = server();
    let mut client = server.client();
    let oci = client.get("/v2/");
    let ecr = client.ecr_body("DescribeRepositories", b"{}");
    let health = client.get("/nowhere");
    assert_eq!(health.status, 404);
    let ids = [oci.header("x-request-id"), ecr.header("x-amzn-requestid"), health.header("x-request-id")];
    let log = server.log();
    for id in ids {
        assert!(log.contains(&format!("request={}", id.unwrap())), "{id:?}");
    }
    assert!(oci.header("access-control-allow-origin").is_none());
}

#[test]
fn json_logs_are_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &["--log-format=json"]);
    server.client().get("/v2/");
    for line in server.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string());
    }
}
