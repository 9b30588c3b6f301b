//! Blobs whose files are harmed under a running server: what clients of both protocols are told, and how pushing heals.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Reply, digest, manifest, noise};
use crate::harness::{Server, data, files};

const LEN: usize = 3_000_000;

/// An image in `app` with one large layer; the layer's digest and file.
fn pushed(client: &mut Client, dir: &TempDir, bytes: &[u8]) -> (String, PathBuf) {
    let digest = client.push_blob("app", bytes);
    client.push_blob("app", b"{}");
    assert_eq!(client.push_manifest("app", "v1", &manifest(b"{}", &[bytes])).status, 201);
    (digest, file(dir, bytes.len()))
}

/// The file of the blob of this length.
fn file(dir: &TempDir, len: usize) -> PathBuf {
    let footer = 128;
    let found: Vec<_> =
        files(&data(dir).join("blobs")).into_iter().filter(|(size, _)| *size == len as u64 + footer).collect();
    let [(_, file)] = found.as_slice() else { panic!("{found:?}") };
    file.clone()
}

fn flip(file: &std::path::Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn availability(client: &mut Client, digest: &str) -> Value {
    let input = json!({"repositoryName": "app", "layerDigests": [digest]});
    let (status, answer) = client.ecr("BatchCheckLayerAvailability", &input);
    assert_eq!(status, 200, "{answer}");
    answer["layers"][0]["layerAvailability"].clone()
}

fn head(client: &mut Client, digest: &str) -> Reply {
    client.call("HEAD", &format!("/v2/app/blobs/{digest}"), &[], b"")
}

/// The blob counts as absent wherever a push asks, and as damaged wherever a pull does.
fn assert_quarantined(server: &Server, digest: &str, bytes: &[u8]) {
    let mut client = server.client();
    assert_eq!(head(&mut client, digest).status, 404);
    assert_eq!(availability(&mut client, digest), "UNAVAILABLE");
    let mount = format!("/v2/other/blobs/uploads/?mount={digest}&from=app");
    assert_eq!(client.call("POST", &mount, &[], b"").status, 202, "an upload instead of a mount");
    let refused = client.push_manifest("app", "v2", &[manifest(b"{}", &[bytes]).as_slice(), b" "].concat());
    assert_eq!((refused.status, refused.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));

    for range in [None, Some(("Range", "bytes=0-9"))] {
        let pulled = client.call("GET", &format!("/v2/app/blobs/{digest}"), range.as_slice(), b"");
        assert_eq!((pulled.status, pulled.complete), (500, true), "{range:?}");
    }
    let input = json!({"repositoryName": "app", "layerDigest": digest});
    let (status, answer) = client.ecr("GetDownloadUrlForLayer", &input);
    assert_eq!((status, answer["__type"].as_str().unwrap_or_default()), (400, "LayersNotFoundException"), "{answer}");
}

#[test]
fn a_download_of_damaged_bytes_ends_short_and_pushing_heals() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    let bytes = noise(1, LEN);
    let (layer, file) = pushed(&mut client, &dir, &bytes);
    let other = noise(2, 500_000);
    let bystander = client.push_blob("app", &other);
    let input = json!({"repositoryName": "app", "layerDigest": layer});
    let (_, granted) = client.ecr("GetDownloadUrlForLayer", &input);
    let url = granted["downloadUrl"].as_str().unwrap().to_owned();
    flip(&file, 2_000_000);

    let pulled = client.get(&format!("/v2/app/blobs/{layer}"));
    assert_eq!((pulled.status, pulled.complete), (200, false), "the header went out before the damage was reached");
    assert!(pulled.body.len() < 2_000_000 && bytes.starts_with(&pulled.body), "what came was right");
    assert!(server.log().contains("aborted a download"));
    assert_quarantined(&server, &layer, &bytes);
    assert_eq!(server.client().get(&url).status, 500);
    server.kill();

    let server = Server::start(&dir, &[]);
    assert_quarantined(&server, &layer, &bytes);
    let mut client = server.client();
    assert!(client.get(&format!("/v2/app/blobs/{bystander}")).body == other, "another blob is as it was");
    assert_eq!(client.push_blob("app", &bytes), layer);
    assert_eq!(head(&mut client, &layer).status, 200);
    assert_eq!(availability(&mut client, &layer), "AVAILABLE");
    for path in [format!("/v2/app/blobs/{layer}"), crate::harness::path_of(&url)] {
        let pulled = client.get(&path);
        assert_eq!(pulled.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(pulled.status == 200 && pulled.complete && pulled.body == bytes, "{path}");
    }
    crate::harness::eventually("the damaged file goes", || !file.exists());
    server.stop();
}

/// Goal: a client of ECR that was told "unavailable" pushes, and is not told then that the layer was there.
#[test]
fn pushing_a_damaged_layer_over_ecr_is_a_push_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    let bytes = noise(1, LEN);
    let (layer, file) = pushed(&mut client, &dir, &bytes);
    flip(&file, 2_000_000);
    assert!(!client.get(&format!("/v2/app/blobs/{layer}")).complete);
    assert_quarantined(&server, &layer, &bytes);

    let mut client = server.client();
    let mut push = || {
        let (_, begun) = client.ecr("InitiateLayerUpload", &json!({"repositoryName": "app"}));
        let part = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let input = json!({"repositoryName": "app", "uploadId": begun["uploadId"], "partFirstByte": 0,
            "partLastByte": LEN - 1, "layerPartBlob": part});
        assert_eq!(client.ecr("UploadLayerPart", &input).0, 200);
        let input = json!({"repositoryName": "app", "uploadId": begun["uploadId"], "layerDigests": [layer]});
        client.ecr("CompleteLayerUpload", &input)
    };
    let (status, healed) = push();
    assert_eq!((status, &healed["layerDigest"]), (200, &json!(layer)), "{healed}");
    let (status, again) = push();
    assert_eq!((status, &again["__type"]), (400, &json!("LayerAlreadyExistsException")), "{again}");
    assert_eq!(availability(&mut server.client(), &layer), "AVAILABLE");
}

#[test]
fn damage_before_the_first_byte_is_told_in_the_status() {
    for (harm, url) in [("flip", true), ("flip", false), ("truncate", true), ("truncate", false), ("delete", false)] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir, &[]);
        let mut client = server.client();
        let bytes = noise(1, LEN);
        let (layer, file) = pushed(&mut client, &dir, &bytes);
        let path = if url {
            let input = json!({"repositoryName": "app", "layerDigest": layer});
            let (_, granted) = client.ecr("GetDownloadUrlForLayer", &input);
            granted["downloadUrl"].as_str().unwrap().to_owned()
        } else {
            format!("/v2/app/blobs/{layer}")
        };
        match harm {
            "flip" => flip(&file, 3),
            "truncate" => std::fs::File::options().write(true).open(&file).unwrap().set_len(1_000_000).unwrap(),
            _ => std::fs::remove_file(&file).unwrap(),
        }
        let pulled = client.get(&path);
        assert_eq!((pulled.status, pulled.complete), (500, true), "{harm}");
        assert_quarantined(&server, &layer, &bytes);
        assert_eq!(server.client().push_blob("app", &bytes), layer);
        assert!(server.client().get(&path).body == bytes, "{harm}");
    }
}

#[test]
fn a_window_serves_unchecked_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &["--verified-window=1h"]);
    let bytes = noise(1, LEN);
    let (layer, file) = pushed(&mut server.client(), &dir, &bytes);
    flip(&file, 2_000_000);
    let pulled = server.client().get(&format!("/v2/app/blobs/{layer}"));
    assert_eq!((pulled.status, pulled.complete), (200, true), "this is the risk that the option states");
    assert_ne!(digest(&pulled.body), layer);
    server.stop();
    let server = Server::start(&dir, &[]);
    let pulled = server.client().get(&format!("/v2/app/blobs/{layer}"));
    assert!(!pulled.complete, "without the window it is checked");
}

#[test]
fn the_scrub_finds_damage_that_no_client_has_met() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &["--scrub-mib-per-s=0"]);
    let bytes = noise(1, LEN);
    let (layer, file) = pushed(&mut server.client(), &dir, &bytes);
    flip(&file, 2_000_000);
    server.stop();
    let store = data(&dir);
    let (code, said, _) = crate::harness::run(&["inspect", "--data", store.to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("\nscrub: pass 0 at rest"), "{said}");
    scrub(&store);
    let (_, said, _) = crate::harness::run(&["inspect", "--data", store.to_str().unwrap()]);
    assert!(said.contains("\nscrub: pass 1 at rest") && said.contains("findings 1"), "{said}");
    let server = Server::start(&dir, &[]);
    assert_quarantined(&server, &layer, &bytes);
    assert_eq!(server.client().push_blob("app", &bytes), layer);
    assert!(server.client().get(&format!("/v2/app/blobs/{layer}")).body == bytes);
}

/// The chaining values of the middle of a blob are gone: what came before is sent while the whole blob is read to prove it.
#[test]
fn a_download_goes_on_over_chaining_values_that_are_lost_in_its_middle() {
    use layerhold::format::keys;
    use layerhold::store::rocks::{RocksOptions, RocksTable};
    use layerhold::store::table::Table;
    use layerhold::store::{Batch, Direction, KeyRange};

    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    let mut client = server.client();
    let bytes = noise(1, LEN);
    let location = client.begin("app");
    for (number, part) in bytes.chunks(1_000_000).enumerate() {
        let range = format!("{}-{}", number * 1_000_000, number * 1_000_000 + part.len() - 1);
        assert_eq!(client.call("PATCH", &location, &[("Content-Range", &range)], part).status, 202);
    }
    let layer = digest(&bytes);
    assert_eq!(client.call("PUT", &crate::client::with_digest(&location, &layer), &[], b"").status, 201);
    server.stop();

    let table = RocksTable::open(&data(&dir).join("table"), RocksOptions::default()).unwrap();
    let mut rows = Vec::new();
    let family = keys::groups(layerhold::store::Location([0; 16]), 0)[0];
    let all = KeyRange { start: vec![family], end: vec![family + 1] };
    table
        .view()
        .unwrap()
        .scan(&all, Direction::Forward, &mut |key, _| {
            rows.push(key.to_vec());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(rows.len() >= 3, "{rows:?}");
    let mut batch = Batch::new();
    batch.delete(&rows[1]);
    table.apply(&[&batch], None).unwrap();
    table.flush().unwrap();
    drop(table);

    let server = Server::start(&dir, &[]);
    let path = format!("/v2/app/blobs/{layer}");
    let pulled = server.client().get(&path);
    assert!(pulled.status == 200 && pulled.complete && pulled.body == bytes);
    server.stop();
    let engine = layerhold::Engine::open(data(&dir), layerhold::Options::default()).unwrap();
    let rebuilt =
        |change: &layerhold::change::Change| matches!(change.event, layerhold::change::Event::BlobRebuilt { .. });
    assert_eq!(engine.changes(0, u32::MAX).unwrap().iter().filter(|change| rebuilt(change)).count(), 1);
}

/// The server's own scrub goes on beside the one that an operator asks for.
#[test]
fn a_scrub_that_is_asked_for_hears_of_all_that_is_found_meanwhile() {
    use layerhold_server::control::{Line, Request, work};

    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &["--scrub-mib-per-s=0"]);
    // More than one step reads.
    let bytes = noise(1, 20_000_000);
    let (_, file) = pushed(&mut server.client(), &dir, &bytes);
    server.stop();
    flip(&file, 19_000_000);
    let engine = layerhold::Engine::open(data(&dir), layerhold::Options::default()).unwrap();
    let mut last = None;
    work::carry_out(&engine, Request::Scrub, &std::sync::atomic::AtomicBool::new(false), &mut |line| {
        if !line.is_last() {
            engine.scrub_step(layerhold::ScrubBudget::bytes(u64::MAX)).unwrap();
        }
        last = Some(line.clone());
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(last, Some(Line::Done { sound: false, stopped: false, left: 1, .. })), "{last:?}");
    assert!(matches!(engine.scrub_step(layerhold::ScrubBudget::bytes(1)), Ok(done) if !done.busy));
}

/// A pass by a host of the library: the server's own begins when the last one is a week old.
fn scrub(store: &std::path::Path) {
    let engine = layerhold::Engine::open(store, layerhold::Options::default()).unwrap();
    let mut findings = Vec::new();
    loop {
        let done = engine.scrub_step(layerhold::ScrubBudget::bytes(1_000_000)).unwrap();
        findings.extend(done.findings);
        if done.pass_completed {
            break;
        }
    }
    assert!(matches!(findings.as_slice(), [layerhold::ScrubFinding::BlobQuarantined { .. }]), "{findings:?}");
    engine.close().unwrap();
}
