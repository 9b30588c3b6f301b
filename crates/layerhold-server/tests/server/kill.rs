//! A hard kill in the middle of a push: what was acknowledged is there, and the push goes on where it was.

use std::time::Duration;

use crate::client::{digest, manifest, noise, with_digest};
use crate::harness::Server;

#[test]
fn a_push_goes_on_after_a_hard_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    let (config, layer) = (b"{}".to_vec(), noise(1, 500_000));
    client.push_blob("app", &config);
    client.push_blob("app", &layer);
    let image = manifest(&config, &[&layer]);
    assert_eq!(client.push_manifest("app", "v1", &image).status, 201);

    let large = noise(2, 8 << 20);
    let location = client.begin("app");
    let (first, rest) = large.split_at(3 << 20);
    assert_eq!(client.call("PATCH", &location, &[], first).status, 202);
    // Half of the next piece is under way when the power goes.
    client.send_head("PATCH", &location, &[("Content-Length", &rest.len().to_string())]);
    client.send(&rest[..1 << 20]);
    std::thread::sleep(Duration::from_millis(50));
    server.kill();

    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    assert_eq!(server.said, [] as [String; 0]);
    assert_eq!(client.get("/v2/app/manifests/v1").body, image);
    assert!(client.get(&format!("/v2/app/blobs/{}", digest(&layer))).body == layer);

    let status = client.get(&location);
    assert_eq!(status.status, 204, "{status:?}");
    let last: usize = status.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
    assert!(last + 1 >= first.len(), "acknowledged bytes are gone: {last}");
    let missing = &large[last + 1..];
    let range = format!("{}-{}", last + 1, large.len() - 1);
    assert_eq!(client.call("PATCH", &location, &[("Content-Range", &range)], missing).status, 202);
    let digest = digest(&large);
    assert_eq!(client.call("PUT", &with_digest(&location, &digest), &[], b"").status, 201);
    assert!(client.get(&format!("/v2/app/blobs/{digest}")).body == large);
}

#[test]
fn kill_after_kill_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    for generation in 0..5_u64 {
        let server = Server::start(&dir, &[]);
        let mut client = server.client();
        for blob in &acknowledged {
            let pulled = client.get(&format!("/v2/app/blobs/{}", digest(blob)));
            assert!(pulled.status == 200 && &pulled.body == blob);
        }
        let more: Vec<Vec<u8>> = (0..20).map(|n| noise(generation * 100 + n, 1000 + 3000 * n as usize)).collect();
        for blob in more {
            client.push_blob("app", &blob);
            acknowledged.push(blob);
        }
        server.kill();
    }
}
