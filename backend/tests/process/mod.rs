//! The server as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SECRET: &str = "sekret-token-1";

/// The program, serving.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
}

/// Starts it with a store in `folder`; `storage` is more of its `[storage]`.
pub(crate) fn start(folder: &Path, storage: &str) -> Server {
    let config = folder.join("dirless.toml");
    let text = format!(
        "[server]\nport = 0\nworkers = 2\n[storage]\npath = {:?}\n{storage}\n[log]\nformat = \"text\"\n",
        folder.join("store")
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dirless-backend"))
        .arg("--config")
        .arg(&config)
        .arg("run")
        .env("DIRLESS_HMAC_SECRET", SECRET)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("the server ended before it served").unwrap();
        if let Some((_, rest)) = line.split_once("serving on http://") {
            break rest.split(' ').next().unwrap().to_owned();
        }
    };
    // The pipe is kept drained, or a chatty server would block on it.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Server { child, address }
}

/// One request on its own connection; `None` when the server is gone.
pub(crate) fn exchange(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n{headers}\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let announced = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?
        .parse::<usize>()
        .ok()?;
    (body.len() == announced).then(|| (head[9..12].parse().unwrap(), body.to_owned()))
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed before.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}
