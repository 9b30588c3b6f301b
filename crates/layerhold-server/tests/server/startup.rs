//! Starting and stopping: what is refused, in which words, and what a refusal leaves behind.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::client::digest;
use crate::harness::{Server, data, eventually, files, run};

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs `layerhold serve` where it must refuse; its words.
fn refused(arguments: &[&str]) -> String {
    let mut all = vec!["serve", "--listen=127.0.0.1:0"];
    all.extend_from_slice(arguments);
    let (code, out, err) = run(&all);
    assert_eq!(code, Some(1), "{out}{err}");
    assert_eq!(out, "");
    assert_eq!(err.lines().count(), 1, "{err}");
    err
}

#[test]
fn a_store_is_made_once_and_opened_ever_after() {
    let dir = dir();
    let server = Server::start(&dir, &[]);
    assert_eq!(server.said, [format!("created a new store data={}", data(&dir).display())]);
    let health = server.client().get("/healthz");
    assert_eq!((health.status, health.text().as_str()), (200, "ok\n"));
    assert_eq!(server.client().get("/v2/").status, 200);
    assert_eq!(server.public_client().get("/v2/").status, 200);
    server.stop();

    let server = Server::start(&dir, &[]);
    assert_eq!(server.said, [] as [String; 0]);
    server.stop();

    // An empty directory that is there already does as well.
    let dir = self::dir();
    std::fs::create_dir(data(&dir)).unwrap();
    assert_eq!(Server::start(&dir, &[]).said.len(), 1);
}

#[test]
fn beyond_loopback_is_refused_before_anything_is_made() {
    let dir = dir();
    let data = data(&dir);
    for listen in ["--listen=0.0.0.0:0", "--listen=[::]:0", "--public-listen=0.0.0.0:0"] {
        let words = run(&["serve", listen, "--data", data.to_str().unwrap()]);
        assert_eq!(words.0, Some(1));
        assert!(words.2.contains("--allow-unauthenticated"), "{}", words.2);
        assert!(!data.exists());
    }
}

#[test]
fn a_store_is_opened_by_one_process_at_a_time() {
    let dir = dir();
    let server = Server::start(&dir, &[]);
    let data = data(&dir);
    let words = refused(&["--data", data.to_str().unwrap()]);
    assert!(words.contains("in use") && words.contains("holder=layerhold process "), "{words}");
    let (code, _, words) = run(&["inspect", "--data", data.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(words.contains("in use"), "{words}");
    assert_eq!(server.client().get("/healthz").status, 200);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let dir = dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let words = refused(&["--data", file.to_str().unwrap()]);
    assert!(words.contains("the data directory is a file"), "{words}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let words = refused(&["--data", dir.path().to_str().unwrap()]);
    assert!(words.contains("neither a store nor empty"), "{words}");
    assert_eq!(files(dir.path()), [(8, file)]);
}

#[test]
fn a_store_of_another_version_is_refused() {
    let dir = dir();
    Server::start(&dir, &[]).stop();
    let format = data(&dir).join("FORMAT");
    let mut bytes = std::fs::read(&format).unwrap();
    bytes[11] += 1;
    let body = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..body]).to_be_bytes();
    bytes[body..].copy_from_slice(&checksum);
    std::fs::write(&format, &bytes).unwrap();
    let words = refused(&["--data", data(&dir).to_str().unwrap()]);
    assert!(words.contains("another version of layerhold") && words.contains("supported="), "{words}");
    assert_eq!(std::fs::read(&format).unwrap(), bytes);
}

#[test]
fn a_port_that_is_taken_makes_no_store() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = dir();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let (code, _, words) = run(&["serve", &listen, "--data", data(&dir).to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(words.contains("cannot listen"), "{words}");
    assert!(!data(&dir).exists());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let arn = |arguments: &[&str], environment: &[(&str, &str)]| {
        let dir = dir();
        let config = dir.path().join("layerhold.toml");
        let mut file = std::fs::File::create(&config).unwrap();
        writeln!(file, "region = 'eu-west-1'\naccount = '111111111111'\nlisten = '127.0.0.1:0'").unwrap();
        writeln!(file, "public-listen = '127.0.0.1:0'\ndata = '{}'", data(&dir).display()).unwrap();
        let mut command = crate::harness::layerhold(&["serve", "--config", config.to_str().unwrap()]);
        command.args(arguments).envs(environment.iter().copied());
        let server = Server::of(command, &dir);
        let (status, created) = server.client().ecr("CreateRepository", &json!({"repositoryName": "app"}));
        assert_eq!(status, 200, "{created}");
        created["repository"]["repositoryArn"].as_str().unwrap().to_owned()
    };
    assert_eq!(arn(&[], &[]), "arn:aws:ecr:eu-west-1:111111111111:repository/app");
    let environment = [("LAYERHOLD_REGION", "eu-west-2"), ("LAYERHOLD_ACCOUNT", "222222222222")];
    assert_eq!(arn(&[], &environment), "arn:aws:ecr:eu-west-2:222222222222:repository/app");
    assert_eq!(arn(&["--region=eu-west-3"], &environment), "arn:aws:ecr:eu-west-3:222222222222:repository/app");
}

#[test]
fn wrong_settings_are_named() {
    let dir = dir();
    let data = data(&dir);
    let data = data.to_str().unwrap();
    assert!(refused(&[]).contains("setting=data"));
    assert!(refused(&["--data", data, "--account=1"]).ends_with("account=1\n"));
    assert!(refused(&["--data", data, "--log-level=loud"]).contains("setting=log-level"));
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "lisen = '127.0.0.1:1'").unwrap();
    assert_eq!(run(&["serve", "--config", config.to_str().unwrap()]).0, Some(1));
    assert_eq!(run(&["serve", "--nonsense"]).0, Some(2));
    assert_eq!(run(&["version"]).1, format!("layerhold {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn inspect_counts_what_is_there() {
    let dir = dir();
    let server = Server::start(&dir, &[]);
    server.client().push_blob("a/b", b"0123456789");
    server.stop();
    let (code, out, _) = run(&["inspect", "--data", data(&dir).to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(out.contains("registry private/000000000000/us-east-1: repositories 1"), "{out}");
    assert!(out.contains("blobs 1, logical bytes 10"), "{out}");
    let nowhere = dir.path().join("nowhere");
    assert_eq!(run(&["inspect", "--data", nowhere.to_str().unwrap()]).0, Some(1));
    assert!(!nowhere.exists());
}

#[test]
fn a_shutdown_lets_running_requests_end() {
    let dir = dir();
    let mut server = Server::start(&dir, &[]);
    let bytes = crate::client::noise(1, 1 << 20);
    let (first, second) = bytes.split_at(300_000);
    let mut client = server.client();
    let location = client.begin("a");
    client.send_head("PATCH", &location, &[("Content-Length", &bytes.len().to_string())]);
    client.send(first);
    std::thread::sleep(Duration::from_millis(200));
    let mut idle = server.client();
    assert_eq!(idle.get("/healthz").status, 200);

    server.ask_to_stop();
    // A connection without a request is closed, one with a request goes on.
    assert!(idle.try_reply("GET").is_none());
    // The listeners close at about the same time.
    eventually("the port is closed", || std::net::TcpStream::connect(server.address).is_err());
    client.send(second);
    assert_eq!(client.reply("PATCH").status, 202);
    assert_eq!(server.wait().code(), Some(0));

    let server = Server::start(&dir, &[]);
    let digest = digest(&bytes);
    let done = server.client().call("PUT", &crate::client::with_digest(&location, &digest), &[], b"");
    assert_eq!(done.status, 201, "{done:?}");
}

#[test]
fn what_is_left_of_a_store_that_does_not_open_is_served_for_reads() {
    let dir = dir();
    let server = Server::start(&dir, &[]);
    let (config, layer) = (b"{}".as_slice(), b"a layer".as_slice());
    for bytes in [config, layer] {
        server.client().push_blob("app", bytes);
    }
    let manifest = crate::client::manifest(config, &[layer]);
    assert_eq!(server.client().push_manifest("app", "v1", &manifest).status, 201);
    server.stop();
    let data = data(&dir);
    std::fs::remove_file(data.join("FORMAT")).unwrap();
    let words = refused(&["--data", data.to_str().unwrap()]);
    assert!(words.contains("damaged"), "{words}");

    let before = files(&data);
    let server = Server::start(&dir, &["--read-only"]);
    let pulled = server.client().get("/v2/app/manifests/v1");
    assert_eq!((pulled.status, pulled.body), (200, manifest));
    let pulled = server.client().get(&format!("/v2/app/blobs/{}", digest(layer)));
    assert_eq!((pulled.status, pulled.body.as_slice()), (200, layer));
    assert_eq!(server.client().call("POST", "/v2/app/blobs/uploads/", &[], b"").status, 503);
    server.stop();
    assert_eq!(files(&data), before, "nothing was made or changed");
}
