//! A small HTTP/1.1 client of our own: it can do what well-behaved ones refuse to, such as stopping in mid-sentence.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body was as long as announced.
    pub(crate) complete: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code of an OCI error.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    host: String,
    left_over: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { socket, host: address.to_string(), left_over: Vec::new() }
    }

    pub(crate) fn with_host(mut self, host: &str) -> Client {
        self.host = host.to_owned();
        self
    }

    /// Sends the head of a request, its lengths being the caller's affair.
    pub(crate) fn send_head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let path = match path.strip_prefix("http://") {
            Some(rest) => &rest[rest.find('/').unwrap()..],
            None => path,
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The server may have answered and closed already; the reply tells.
        let _ = self.socket.write_all(bytes);
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            all.push(("Content-Length", &length));
        }
        self.send_head(method, path, &all);
        self.send(body);
        self.reply(method)
    }

    /// An ECR operation.
    pub(crate) fn ecr(&mut self, operation: &str, input: &Value) -> (u16, Value) {
        let reply = self.ecr_body(operation, input.to_string().as_bytes());
        (reply.status, reply.json())
    }

    pub(crate) fn ecr_body(&mut self, operation: &str, body: &[u8]) -> Reply {
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
        let headers = [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.1")];
        self.call("POST", "/", &headers, body)
    }

    pub(crate) fn reply(&mut self, method: &str) -> Reply {
        self.try_reply(method).expect("the server closed the connection without an answer")
    }

    /// The next answer; `None` where the server closed instead.
    pub(crate) fn try_reply(&mut self, method: &str) -> Option<Reply> {
        let mut received = std::mem::take(&mut self.left_over);
        let mut chunk = vec![0; 64 << 10];
        let head_end = loop {
            if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(some) => received.extend_from_slice(&chunk[..some]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        };
        let head = String::from_utf8(received[..head_end].to_vec()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        if status == 100 {
            self.left_over = received.split_off(head_end);
            return self.try_reply(method);
        }
        let mut reply = Reply { status, headers, body: received.split_off(head_end), complete: true };
        let length = match reply.header("content-length") {
            Some(length) if method != "HEAD" => length.parse().unwrap(),
            _ => 0,
        };
        while reply.body.len() < length {
            match self.socket.read(&mut chunk) {
                Ok(0) | Err(_) => {
                    reply.complete = false;
                    return Some(reply);
                }
                Ok(some) => reply.body.extend_from_slice(&chunk[..some]),
            }
        }
        self.left_over = reply.body.split_off(length);
        Some(reply)
    }

    /// Begins an upload; its location.
    pub(crate) fn begin(&mut self, repository: &str) -> String {
        let begun = self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(begun.status, 202, "{begun:?}");
        begun.header("location").unwrap().to_owned()
    }

    /// Pushes a blob whole; its digest.
    pub(crate) fn push_blob(&mut self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let location = self.begin(repository);
        let done = self.call("PUT", &with_digest(&location, &digest), &[], bytes);
        assert_eq!(done.status, 201, "{done:?}");
        digest
    }

    pub(crate) fn push_manifest(&mut self, repository: &str, reference: &str, manifest: &[u8]) -> Reply {
        self.call(
            "PUT",
            &format!("/v2/{repository}/manifests/{reference}"),
            &[("Content-Type", MANIFEST_TYPE)],
            manifest,
        )
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }
}

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn with_digest(location: &str, digest: &str) -> String {
    format!("{location}{}digest={digest}", if location.contains('?') { '&' } else { '?' })
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in sha2::Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Bytes that only `seed` gives.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// An image manifest over a configuration and layers, each with its size.
pub(crate) fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": layer.len(), "digest": digest(layer)})
        })
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": digest(config)},
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}
