//! `layerhold check` and `repair`: offline, through a running server, and what they do not let through.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, data, files, layerhold, run};

fn with_blobs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir, &[]);
    server.client().push_blob("team/app", b"small");
    server.client().push_blob("team/app", &crate::client::noise(5, 200_000));
    server.stop();
    dir
}

fn path(dir: &TempDir) -> String {
    data(dir).to_str().unwrap().to_owned()
}

fn blob_file(dir: &TempDir) -> PathBuf {
    files(&data(dir).join("blobs")).pop().unwrap().1
}

/// The lines of a command's JSON output.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["line"] == kind).collect()
}

#[test]
fn a_sound_store_is_said_to_be_so_and_the_same_through_a_server() {
    let dir = with_blobs();
    let offline = run(&["check", "--level=bytes", &path(&dir)]);
    assert_eq!(offline.0, Some(0), "{offline:?}");
    assert!(offline.1.starts_with("sound: ") && offline.1.contains("1 files, 200,005 bytes read"), "{offline:?}");
    assert_eq!(offline.2, "", "no bar where there is no terminal");
    let server = Server::start(&dir, &[]);
    let socket = data(&dir).join("control.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let live = run(&["check", "--level=bytes", &path(&dir)]);
    assert_eq!(live.0, Some(0), "{live:?}");
    assert!(live.1.starts_with("sound: ") && live.1.contains("1 files, 200,005 bytes read"), "{live:?}");
    let (code, text, _) = run(&["repair", "--json", &path(&dir)]);
    assert_eq!(code, Some(0));
    let all = lines(&text);
    assert_eq!(of_kind(&all, "done").len(), 1);
    assert_eq!(all.last().unwrap()["sound"], true);
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn damage_is_named_and_mended_or_left_offline_and_live() {
    let dir = with_blobs();
    let file = blob_file(&dir);
    let orphan = data(&dir).join("blobs/05/05050505050505050505050505050505");
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, "an upload that was cut off").unwrap();
    let server = Server::start(&dir, &[]);
    let (code, text, _) = run(&["check", &path(&dir)]);
    assert_eq!(code, Some(0), "a leftover is no fault: {text}");
    assert!(text.contains("leftover orphan-file location=0505"), "{text}");
    let (code, text, _) = run(&["repair", "--dry-run", "--json", &path(&dir)]);
    assert_eq!(code, Some(0));
    assert_eq!(of_kind(&lines(&text), "finding")[0]["outcome"], "mendable");
    assert!(orphan.exists());
    let (code, text, _) = run(&["repair", &path(&dir)]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("mended: removed") && !orphan.exists(), "{text}");
    server.stop();

    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for arguments in [["check", "--json"], ["repair", "--json"]] {
        let (code, text, _) = run(&[arguments[0], arguments[1], &path(&dir)]);
        assert_eq!(code, Some(1), "{text}");
        let all = lines(&text);
        // The row of the orphan's removal may still be there.
        let findings = of_kind(&all, "finding");
        let finding = findings.iter().find(|finding| finding["severity"] == "lost").expect("a loss");
        assert_eq!(finding["name"], "file-missing");
        assert_eq!(finding["repositories"][0]["name"], "team/app");
        assert_eq!(all.last().unwrap()["sound"], false);
    }
    // The repair quarantined it. Its file is brought back, and all of its bytes prove right.
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(run(&["check", &path(&dir)]).0, Some(1));
    let (code, text, _) = run(&["repair", "--level=bytes", &path(&dir)]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(run(&["check", "--level=bytes", &path(&dir)]).0, Some(0));
}

#[test]
fn what_cannot_be_checked_is_neither_sound_nor_not() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let (code, out, err) = run(&["check", nowhere.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("neither a store nor empty") && !nowhere.exists(), "{err}");
    assert_eq!(run(&["check", "--level=deep", nowhere.to_str().unwrap()]).0, Some(2));
    // A store that is open elsewhere, and not by a server that can be asked.
    let dir = with_blobs();
    let server = Server::start(&dir, &[]);
    std::fs::remove_file(data(&dir).join("control.sock")).unwrap();
    let (code, _, err) = run(&["check", &path(&dir)]);
    assert_eq!(code, Some(2));
    assert!(err.contains("in use"), "{err}");
    drop(server);
}

#[test]
fn a_socket_that_a_killed_server_left_stands_in_nobodys_way() {
    let dir = with_blobs();
    Server::start(&dir, &[]).kill();
    assert!(data(&dir).join("control.sock").exists());
    assert_eq!(run(&["check", &path(&dir)]).0, Some(0));
    let server = Server::start(&dir, &[]);
    assert_eq!(run(&["check", &path(&dir)]).0, Some(0));
    server.stop();
}

#[test]
fn the_socket_answers_a_request_and_nothing_else() {
    let dir = with_blobs();
    let server = Server::start(&dir, &[]);
    let ask = |request: &str| {
        let mut socket = UnixStream::connect(data(&dir).join("control.sock")).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        lines(&text)
    };
    for request in [
        "",
        "GET / HTTP/1.1\r\n\r\n",
        "{}\n",
        "{\"verb\":\"delete\"}\n",
        "{\"verb\":\"check\",\"level\":\"bytes\",\"path\":\"/etc\"}\n",
        &"x".repeat(4_096),
    ] {
        let answer = ask(request);
        assert_eq!(answer.len(), 1, "{answer:?}");
        assert_eq!(answer[0]["line"], "failed");
    }
    let answer = ask("{\"verb\":\"check\",\"level\":\"metadata\"}\n");
    assert_eq!(answer.last().unwrap()["line"], "done");
    // Over TCP nobody gets there.
    assert_eq!(server.client().get("/control.sock").status, 404);
    // A client that goes away stops its request, and the next one is answered.
    let mut socket = UnixStream::connect(data(&dir).join("control.sock")).unwrap();
    socket.write_all(b"{\"verb\":\"check\",\"level\":\"bytes\"}\n").unwrap();
    drop(socket);
    crate::harness::eventually("the next request is answered", || {
        ask("{\"verb\":\"check\",\"level\":\"metadata\"}\n").last().unwrap()["line"] == "done"
    });
    server.stop();
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let dir = with_blobs();
    let mut command = layerhold(&["check", "--json", &path(&dir)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(said, "");
}

#[test]
fn a_scrub_reads_everything_and_quarantines_what_is_damaged() {
    let dir = with_blobs();
    let (code, text, _) = run(&["scrub", "--json", &path(&dir)]);
    assert_eq!(code, Some(0), "{text}");
    assert!(lines(&text).last().unwrap()["bytes"].as_u64().unwrap() > 200_000, "{text}");
    let file = blob_file(&dir);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let server = Server::start(&dir, &["--scrub-mib-per-s=0"]);
    let (code, text, _) = run(&["scrub", &path(&dir)]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("lost     blob-quarantined"), "{text}");
    let (code, text, _) = run(&["check", &path(&dir)]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("blob-quarantined") && text.contains("in team/app"), "{text}");
    server.stop();
}

#[test]
fn a_store_that_does_not_open_says_why_and_is_restored() {
    let dir = with_blobs();
    std::fs::remove_file(data(&dir).join("table/CURRENT")).unwrap();
    assert_eq!(run(&["repair", &path(&dir)]).0, Some(2));
    let (code, text, _) = run(&["check", &path(&dir)]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("the store does not open\n") && text.contains("choices: restore"), "{text}");
    let (code, text, err) = run(&["restore", &path(&dir)]);
    assert_eq!(code, Some(0), "{text}{err}");
    assert!(text.starts_with("restore: everything up to sequence"), "{text}");
    let (code, text, _) = run(&["check", "--level=bytes", &path(&dir)]);
    assert_eq!(code, Some(0), "{text}");
    let (code, _, err) = run(&["restore", &path(&dir)]);
    assert_eq!(code, Some(2));
    assert!(err.contains("the store is whole"), "{err}");
}

#[test]
fn a_loss_is_accepted_only_as_it_was_shown() {
    let dir = with_blobs();
    // All of the table, and all of the journal but a few bytes.
    std::fs::remove_dir_all(data(&dir).join("table")).unwrap();
    for (_, file) in files(&data(&dir).join("journal")) {
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len().min(600)]).unwrap();
    }
    let (code, text, err) = run(&["check", "--json", &path(&dir)]);
    assert_eq!(code, Some(1), "{text}{err}");
    let all = lines(&text);
    let refused = of_kind(&all, "refused")[0];
    assert_eq!(refused["choices"], serde_json::json!(["accept-loss"]), "{refused}");
    let recovered = refused["recovered"].as_u64().unwrap();
    let mut arguments = vec!["accept-loss".to_owned()];
    if let Some(expected) = refused["expected"].as_u64() {
        arguments.extend(["--expected".to_owned(), expected.to_string()]);
    }
    let accept = |recovered: u64| {
        let mut all = arguments.clone();
        all.extend(["--recovered".to_owned(), recovered.to_string(), path(&dir)]);
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (code, _, err) = accept(recovered + 1);
    assert_eq!(code, Some(2), "{err}");
    let (code, text, err) = accept(recovered);
    assert_eq!(code, Some(0), "{text}{err}");
    let (code, text, _) = run(&["check", "--level=bytes", &path(&dir)]);
    assert_eq!(code, Some(0), "{text}");
    Server::start(&dir, &[]).stop();
}
