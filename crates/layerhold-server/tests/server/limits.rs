//! Clients that are slow, large, rude or gone, and blobs that are damaged.

use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;

use crate::client::{Client, digest, manifest, noise, with_digest};
use crate::harness::{Server, data, eventually, files, read_to_close};

fn server(arguments: &[&str]) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, arguments);
    (dir, server)
}

/// How long it takes until the server closes.
fn until_closed(client: &mut Client) -> Duration {
    let begin = Instant::now();
    read_to_close(client);
    begin.elapsed()
}

#[test]
fn a_header_that_does_not_end_ends_the_connection() {
    let (_dir, server) = server(&["--header-timeout=1s"]);
    let mut slow = server.client();
    slow.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    let took = std::thread::scope(|scope| {
        let mut feeder = slow.socket.try_clone().unwrap();
        scope.spawn(move || {
            // A byte now and then buys no time.
            while std::io::Write::write_all(&mut feeder, b"a").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        until_closed(&mut slow)
    });
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(server.client().get("/healthz").status, 200);
}

#[test]
fn an_idle_connection_is_closed_in_the_end() {
    let (_dir, server) = server(&["--idle-timeout=2s"]);
    let mut idle = server.client();
    assert_eq!(idle.get("/healthz").status, 200);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(idle.get("/healthz").status, 200);
    let took = until_closed(&mut idle);
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_body_that_stands_still_is_given_up_and_what_came_is_kept() {
    let (_dir, server) = server(&["--idle-timeout=2s"]);
    let mut client = server.client();
    let bytes = noise(1, 500_000);
    let location = client.begin("a");
    client.send_head("PATCH", &location, &[("Content-Length", "500000")]);
    client.send(&bytes[..200_000]);
    assert_eq!(client.reply("PATCH").status, 408);
    continue_from(&server, &location, &bytes, 200_000);
}

#[test]
fn a_body_of_ecr_that_stands_still_is_a_timeout() {
    let (_dir, server) = server(&["--idle-timeout=2s"]);
    let mut client = server.client();
    let target = ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories");
    client.send_head("POST", "/", &[target, ("Content-Length", "100")]);
    client.send(b"{");
    let late = client.reply("POST");
    assert_eq!((late.status, late.json()["__type"].as_str()), (408, Some("RequestTimeoutException")));

    let mut client = server.client();
    client.send_head("POST", "/", &[target, ("Transfer-Encoding", "chunked")]);
    client.send(b"1\r\n{\r\nnonsense\r\n");
    if let Some(broken) = client.try_reply("POST") {
        assert_eq!((broken.status, broken.json()["__type"].as_str()), (400, Some("RequestAbortedException")));
    }
}

#[test]
fn what_arrived_before_a_client_went_away_is_kept() {
    let (_dir, server) = server(&[]);
    for (seed, arrived) in [1, 100_000, 262_144, 700_000, 1_999_999].into_iter().enumerate() {
        let bytes = noise(seed as u64 + 50, 2_000_000);
        let mut client = server.client();
        let location = client.begin("a");
        client.send_head("PATCH", &location, &[("Content-Length", "2000000")]);
        client.send(&bytes[..arrived]);
        std::thread::sleep(Duration::from_millis(100));
        drop(client);
        continue_from(&server, &location, &bytes, arrived);
    }
}

/// Waits until the session holds `arrived` bytes, sends the rest, completes, and pulls.
fn continue_from(server: &Server, location: &str, bytes: &[u8], arrived: usize) {
    let mut client = server.client();
    let expected = format!("0-{}", arrived - 1);
    eventually("the rest being written", || {
        let status = client.get(location);
        assert_eq!(status.status, 204, "{status:?}");
        status.header("range") == Some(&expected)
    });
    let range = format!("{arrived}-{}", bytes.len() - 1);
    let sent = client.call("PATCH", location, &[("Content-Range", &range)], &bytes[arrived..]);
    assert_eq!(sent.status, 202, "{sent:?}");
    let digest = digest(bytes);
    assert_eq!(client.call("PUT", &with_digest(location, &digest), &[], b"").status, 201);
    assert!(client.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off() {
    let (_dir, server) = server(&["--idle-timeout=2s"]);
    let digest = server.client().push_blob("a", &noise(1, 64 << 20));
    let mut stuck = server.client();
    stuck.send_head("GET", &format!("/v2/a/blobs/{digest}"), &[]);
    std::thread::sleep(Duration::from_secs(5));
    // Had it waited, all of the blob would come now.
    assert!(read_to_close(&mut stuck) < 64 << 20);
}

#[test]
fn large_headers_and_two_framings_are_refused() {
    let (_dir, server) = server(&[]);
    let mut large = server.client();
    let value = "a".repeat(40_000);
    large.send_head("GET", "/healthz", &[("X-Large", &value)]);
    assert_eq!(large.reply("GET").status, 431);

    // A request with two framings is read by its chunks and is the last of its connection, so whatever somebody in front
    // took for its body, or for the next request, reaches nobody.
    let mut smuggler = server.client();
    smuggler.send_head("POST", "/", &[("Content-Length", "4"), ("Transfer-Encoding", "chunked")]);
    smuggler.send(b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(smuggler.reply("POST").header("connection"), Some("close"));
    assert!(smuggler.try_reply("GET").is_none());

    for lengths in [["4", "5"], ["4", "-1"], ["4", "x"]] {
        let mut client = server.client();
        let headers = lengths.map(|length| ("Content-Length", length));
        client.send_head("POST", "/", &headers);
        client.send(b"abcde");
        assert!(client.try_reply("POST").is_none_or(|reply| reply.status == 400));
    }
    assert_eq!(server.client().get("/healthz").status, 200);
}

#[test]
fn bodies_beyond_their_limit_are_refused_unread() {
    let (_dir, server) = server(&[]);
    let mut client = server.client();
    let target = ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.UploadLayerPart");
    client.send_head("POST", "/", &[target, ("Content-Length", "99999999999")]);
    let refused = client.reply("POST");
    assert_eq!((refused.status, refused.json()["__type"].as_str()), (413, Some("RequestEntityTooLargeException")));

    let mut client = server.client();
    client.send_head("PUT", "/v2/a/manifests/v1", &[("Content-Length", "5000000")]);
    assert_eq!(client.reply("PUT").status, 413);
}

#[test]
fn bodies_beyond_the_memory_budget_are_throttled_in_each_protocols_words() {
    let (_dir, server) = server(&["--body-memory=32MiB"]);
    let part = 28 << 20;
    let target = ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.UploadLayerPart");
    let mut first = server.client();
    let length = part.to_string();
    first.send_head("POST", "/", &[target, ("Content-Length", &length)]);
    first.send(b"{");
    std::thread::sleep(Duration::from_millis(200));

    let mut second = server.client();
    second.send_head("POST", "/", &[target, ("Content-Length", &length)]);
    let throttled = second.reply("POST");
    assert_eq!((throttled.status, throttled.json()["__type"].as_str()), (400, Some("ThrottlingException")));

    let mut third = server.client();
    let mut hold = server.client();
    hold.send_head("PUT", "/v2/a/manifests/v0", &[("Content-Length", "4000000")]);
    hold.send(b"{");
    std::thread::sleep(Duration::from_millis(200));
    third.send_head("PUT", "/v2/a/manifests/v1", &[("Content-Length", "4000000")]);
    let busy = third.reply("PUT");
    assert_eq!((busy.status, busy.code().as_str()), (429, "TOOMANYREQUESTS"));
    assert!(busy.header("retry-after").is_some());

    // Small requests go on, and what was held is free again when its client is gone.
    assert_eq!(server.client().ecr("DescribeRepositories", &json!({})).0, 200);
    drop(first);
    drop(hold);
    eventually("a large part being taken", || {
        let bytes = base64::engine::general_purpose::STANDARD.encode(noise(1, 18 << 20));
        let body = json!({"repositoryName": "nowhere", "uploadId": "00000000-0000-4000-8000-000000000000",
            "partFirstByte": 0, "partLastByte": (18 << 20) - 1, "layerPartBlob": bytes});
        let (status, answer) = server.client().ecr("UploadLayerPart", &body);
        assert_eq!(status, 400);
        answer["__type"] == "RepositoryNotFoundException"
    });
}

/// Goal: what slow readers keep in memory is bounded by the same budget.
#[test]
fn answers_beyond_the_memory_budget_are_throttled_in_each_protocols_words() {
    let (_dir, server) = server(&["--body-memory=32MiB"]);
    let mut client = server.client();
    client.push_blob("app", b"{}");
    let mut tags = Vec::new();
    for number in 0..8 {
        let mut image: serde_json::Value = serde_json::from_slice(&manifest(b"{}", &[])).unwrap();
        image["annotations"] = json!({"note": number.to_string().repeat(3_900_000)});
        let tag = format!("v{number}");
        assert_eq!(client.push_manifest("app", &tag, image.to_string().as_bytes()).status, 201);
        tags.push(json!({"imageTag": tag}));
    }
    let pull = json!({"repositoryName": "app", "imageIds": tags});
    let mut stalled = server.client();
    let body = pull.to_string();
    let target = ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.BatchGetImage");
    stalled.send_head("POST", "/", &[target, ("Content-Length", &body.len().to_string())]);
    stalled.send(body.as_bytes());
    // The first byte says that all of it is in memory.
    assert_eq!(stalled.socket.peek(&mut [0]).unwrap(), 1);

    eventually("an answer being throttled", || {
        let (status, answer) = server.client().ecr("BatchGetImage", &pull);
        status == 400 && answer["__type"] == "ThrottlingException"
    });
    let busy = server.client().get("/v2/app/manifests/v0");
    assert_eq!((busy.status, busy.code().as_str()), (429, "TOOMANYREQUESTS"));
    assert!(busy.header("retry-after").is_some());
    assert_eq!(server.client().call("HEAD", "/v2/app/manifests/v0", &[], b"").status, 200, "small answers go on");

    assert_eq!(stalled.reply("POST").json()["images"].as_array().unwrap().len(), 8);
    eventually("the memory being free", || server.client().get("/v2/app/manifests/v0").status == 200);
}

#[test]
fn a_damaged_blob_never_ends_as_a_whole_response() {
    let (dir, server) = server(&[]);
    let bytes = noise(8, 4 << 20);
    let digest = server.client().push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    let (size, file) = files(&data(&dir).join("blobs")).pop().unwrap();
    assert!(size >= bytes.len() as u64);
    let flip = |at: u64| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().read(true).write(true).open(&file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };

    flip(3 << 20);
    let cut = server.client().get(&path);
    assert_eq!(cut.header("content-length"), Some("4194304"));
    assert!(!cut.complete && cut.body.len() <= 3 << 20, "{}", cut.body.len());
    assert!(cut.body == bytes[..cut.body.len()]);
    assert!(server.log().contains("aborted a download"));
    let before = server.client().call("GET", &path, &[("Range", "bytes=0-1000000")], b"");
    assert!(before.status == 206 && before.body == bytes[..=1_000_000] || before.status >= 500);

    flip(3 << 20);
    flip(1);
    let refused = server.client().get(&path);
    assert!(refused.status >= 400 && refused.complete, "{}", refused.status);
}

#[test]
fn a_refused_upload_answers_while_its_body_still_comes() {
    let (_dir, server) = server(&["--create-on-push=never"]);
    let mut client = server.client();
    let body = noise(1, 4 << 20);
    let refused = client.call("PATCH", "/v2/nowhere/blobs/uploads/00000000-0000-4000-8000-000000000000", &[], &body);
    assert_eq!((refused.status, refused.code().as_str()), (404, "NAME_UNKNOWN"));
    // The rest was read and dropped, so the connection serves on.
    assert_eq!(client.get("/healthz").status, 200);
}

/// Goal: those who wait for an upload that another one is writing leave threads to everybody else.
#[test]
fn waiting_for_one_upload_does_not_stop_the_others() {
    let (_dir, server) = server(&["--blocking-threads=4"]);
    let digest = server.client().push_blob("a", &noise(1, 100_000));
    let location = server.client().begin("a");
    let mut writer = server.client();
    writer.send_head("PATCH", &location, &[("Content-Length", "1000000")]);
    writer.send(&noise(2, 300_000));
    std::thread::sleep(Duration::from_millis(300));
    let mut others: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for other in &mut others {
        other.send_head("PATCH", &location, &[("Content-Length", "10")]);
        other.send(b"0123456789");
    }
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    assert_eq!(server.client().get(&format!("/v2/a/blobs/{digest}")).status, 200);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let refused = others.iter_mut().filter_map(|other| other.try_reply("PATCH")).filter(|reply| reply.status == 503);
    assert_eq!(refused.count(), 8, "the one that waited gave up in the end");
}
