//! HTTP/1.1 by the byte: sends exactly what it is given, so that recorded requests of deployed
//! programs can be replayed, and returns exactly what came back.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

/// A reply as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, with their values, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body, with chunks put together.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of the header `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }
}

/// Sends `request` as it stands to `address` and reads one reply.
///
/// # Errors
/// When nobody listens there, or what comes back is not HTTP/1.1.
pub fn exchange(address: &str, request: &[u8]) -> anyhow::Result<Reply> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let status = status
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("not a status line: {status:?}"))?;
    let mut headers = Vec::new();
    loop {
        let text = line(&mut reader)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text
            .split_once(':')
            .with_context(|| format!("not a header: {text:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply {
        status,
        headers,
        body: Vec::new(),
    };
    read_body(&mut reply, &mut reader)?;
    Ok(reply)
}

/// A request with the headers of a deployed client, to `host`, with `extra` header lines and a body.
#[must_use]
pub fn request(method: &str, path: &str, host: &str, extra: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in extra {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str(&format!(
        "Host: {host}\r\nUser-Agent: Crystal\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
    ));
    [text.as_bytes(), body].concat()
}

fn line(reader: &mut impl BufRead) -> anyhow::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        bail!("the connection was closed in the middle of a reply");
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_body(reply: &mut Reply, reader: &mut impl BufRead) -> anyhow::Result<()> {
    if reply.status == 304 || reply.status == 204 {
        return Ok(());
    }
    if let Some(length) = reply.header("content-length") {
        reply.body = vec![0; length.parse()?];
        reader.read_exact(&mut reply.body)?;
    } else if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let length = usize::from_str_radix(line(reader)?.trim(), 16)?;
            let mut chunk = vec![0; length];
            reader.read_exact(&mut chunk)?;
            line(reader)?;
            if length == 0 {
                break;
            }
            reply.body.extend(chunk);
        }
    } else {
        reader.read_to_end(&mut reply.body)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `bytes` and returns what was asked.
    fn answering(bytes: &'static [u8]) -> (String, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(bytes).unwrap();
            asked.truncate(length);
            asked
        });
        (address, server)
    }

    #[test]
    fn the_request_goes_out_as_it_stands_and_the_reply_comes_back_whole() {
        let (address, server) = answering(b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 2\r\n\r\nhi");
        let sent = request("PUT", "/a", "h:1", &[("X-Tenant-ID", "t")], b"body");
        let reply = exchange(&address, &sent).unwrap();
        assert_eq!(
            (reply.status, reply.text().as_str(), reply.header("etag")),
            (200, "hi", Some("\"x\""))
        );
        assert_eq!(server.join().unwrap(), sent);
        assert!(
            String::from_utf8(sent)
                .unwrap()
                .starts_with("PUT /a HTTP/1.1\r\nX-Tenant-ID: t\r\nContent-Length: 4\r\n")
        );
    }

    #[test]
    fn chunks_are_put_together() {
        let (address, _server) =
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
        assert_eq!(exchange(&address, b"GET / HTTP/1.1\r\n\r\n").unwrap().text(), "abc");
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let (address, _server) = answering(b"SSH-2.0-OpenSSH\r\n");
        assert!(exchange(&address, b"GET / HTTP/1.1\r\n\r\n").is_err());
    }
}
