//! A client that costs little: one blocking connection, requests written by hand, bodies counted and dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Result;

/// A connection that stays open.
pub(crate) struct Client {
    socket: TcpStream,
    address: SocketAddr,
    request: Vec<u8>,
    received: Vec<u8>,
}

/// An answer; its body was counted and dropped.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body_bytes: u64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Client { socket, address, request: Vec::new(), received: vec![0; 256 << 10] })
    }

    /// Sends a request and receives its answer, of which the body is dropped.
    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
        // A location is absolute or relative as the server likes.
        let path = match path.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => path,
        };
        self.request.clear();
        write!(self.request, "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}", self.address)?;
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            write!(self.request, "Content-Length: {}\r\n", body.len())?;
        }
        self.request.extend_from_slice(b"\r\n");
        if body.len() <= 16 << 10 {
            self.request.extend_from_slice(body);
            self.socket.write_all(&self.request)?;
        } else {
            self.socket.write_all(&self.request)?;
            self.socket.write_all(body)?;
        }
        self.answer(method == "HEAD")
    }

    /// As [`Client::call`], an unexpected status being an error.
    pub(crate) fn expect(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer> {
        let answer = self.call(method, path, headers, body)?;
        if answer.status != status {
            return Err(format!("{method} {path} answered {} and not {status}", answer.status).into());
        }
        Ok(answer)
    }

    fn answer(&mut self, head: bool) -> Result<Answer> {
        let mut have = 0;
        let head_end = loop {
            let got = self.socket.read(&mut self.received[have..])?;
            if got == 0 {
                return Err("the server closed the connection".into());
            }
            have += got;
            if let Some(at) = self.received[..have].windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = std::str::from_utf8(&self.received[..head_end])?;
        let status = text.get(9..12).ok_or("no status line")?.parse()?;
        let header = |name: &str| {
            text.split("\r\n").skip(1).find_map(|line| {
                let (given, value) = line.split_once(':')?;
                given.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let location = header("location").map(str::to_owned);
        let mut body_bytes = (have - head_end) as u64;
        if head || status == 204 {
            return Ok(Answer { status, location, body_bytes: 0 });
        }
        if let Some(length) = header("content-length") {
            let length: u64 = length.parse()?;
            while body_bytes < length {
                let got = self.socket.read(&mut self.received)?;
                if got == 0 {
                    return Err(format!("the body ended after {body_bytes} of {length} bytes").into());
                }
                body_bytes += got as u64;
            }
            return Ok(Answer { status, location, body_bytes });
        }
        // Chunked: the last chunk is an empty one, and nothing follows it on a connection without pipelining.
        let mut tail = self.received[head_end..have].to_vec();
        while !tail.ends_with(b"0\r\n\r\n") {
            let got = self.socket.read(&mut self.received)?;
            if got == 0 {
                return Err("the body ended between chunks".into());
            }
            body_bytes += got as u64;
            tail.extend_from_slice(&self.received[..got]);
            let keep = tail.len().saturating_sub(16);
            tail.drain(..keep);
        }
        Ok(Answer { status, location, body_bytes })
    }

    /// Pushes a blob in one piece: a session, then its bytes with the digest.
    pub(crate) fn push_blob(&mut self, repository: &str, bytes: &[u8], digest: &str) -> Result<()> {
        let begun = self.expect(202, "POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"")?;
        let location = begun.location.ok_or("an upload without a location")?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{separator}digest={digest}");
        self.expect(201, "PUT", &path, "Content-Type: application/octet-stream\r\n", bytes)?;
        Ok(())
    }

    /// Pushes a layer as container engines do: a session, its bytes in one PATCH, an empty PUT with the digest.
    pub(crate) fn push_layer(&mut self, repository: &str, bytes: &[u8], digest: &str) -> Result<()> {
        let begun = self.expect(202, "POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"")?;
        let location = begun.location.ok_or("an upload without a location")?;
        let sent = self.expect(202, "PATCH", &location, "Content-Type: application/octet-stream\r\n", bytes)?;
        let location = sent.location.ok_or("an upload without a location")?;
        let separator = if location.contains('?') { '&' } else { '?' };
        self.expect(201, "PUT", &format!("{location}{separator}digest={digest}"), "", b"")?;
        Ok(())
    }

    /// Pushes a manifest under a tag or digest.
    pub(crate) fn push_manifest(&mut self, repository: &str, reference: &str, manifest: &[u8]) -> Result<()> {
        let headers = format!("Content-Type: {}\r\n", crate::content::MANIFEST_TYPE);
        self.expect(201, "PUT", &format!("/v2/{repository}/manifests/{reference}"), &headers, manifest)?;
        Ok(())
    }
}
