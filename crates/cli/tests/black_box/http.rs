//! A small HTTP client: one connection per request, bodies read as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for the next byte: far more than anything here takes.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// A reply that was read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }
}

/// A reply whose head has come. Dropping it closes the connection, whatever is still on the way.
pub struct Open {
    pub status: u16,
    connection: BufReader<TcpStream>,
    framing: Framing,
    /// Of the body, what was read and not given yet.
    text: String,
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked,
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, "GET", path, "").reply()
}

/// `POST path` with a JSON body.
pub fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    open(address, path, body).reply()
}

/// `POST path` with a JSON body; returns once the head of the reply has come.
pub fn open(address: SocketAddr, path: &str, body: &Value) -> Open {
    send(address, "POST", path, &body.to_string())
}

/// Sends a request and gives the connection without waiting for anything.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.set_read_timeout(Some(SILENCE_LIMIT)).expect("not zero");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).expect("the server reads");
    connection
}

fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> Open {
    Open::new(request(address, method, path, body))
}

impl Open {
    /// Reads the head of a reply.
    pub fn new(connection: TcpStream) -> Open {
        let mut connection = BufReader::new(connection);
        let status_line = read_line(&mut connection);
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {status_line:?}"));
        let mut framing = Framing::Length(0);
        loop {
            let line = read_line(&mut connection).to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", length)) => {
                    framing = Framing::Length(length.parse().expect("a number"));
                }
                Some(("transfer-encoding", "chunked")) => framing = Framing::Chunked,
                Some(_) => {}
                None if line.is_empty() => break,
                None => panic!("no header: {line:?}"),
            }
        }
        Open { status, connection, framing, text: String::new() }
    }

    /// Reads more of the body; false at its end.
    fn read(&mut self) -> bool {
        let length = match &mut self.framing {
            Framing::Length(length) => std::mem::take(length),
            Framing::Chunked => {
                let line = read_line(&mut self.connection);
                usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("a size: {line:?}"))
            }
        };
        let mut bytes = vec![0; length];
        self.connection.read_exact(&mut bytes).expect("the body is whole");
        self.text.push_str(std::str::from_utf8(&bytes).expect("no character is cut"));
        if let Framing::Chunked = self.framing {
            assert_eq!(read_line(&mut self.connection), "");
        }
        0 < length
    }

    /// The data of the next server-sent event; none at the end of the stream.
    pub fn event(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.strip_prefix("data: ").unwrap_or(event).to_owned();
                self.text = rest.to_owned();
                return Some(data);
            }
            if !self.read() {
                assert_eq!(self.text, "", "the stream ends within an event");
                return None;
            }
        }
    }

    /// All further events as JSON, without the closing `[DONE]`, which must be there.
    pub fn events(mut self) -> Vec<Value> {
        let mut events: Vec<String> = std::iter::from_fn(|| self.event()).collect();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{events:?}");
        let json = |event: &String| serde_json::from_str(event).unwrap_or_else(|e| panic!("{e}"));
        events.iter().map(json).collect()
    }

    /// The whole reply.
    pub fn reply(mut self) -> Reply {
        while self.read() {}
        Reply { status: self.status, body: self.text }
    }
}

fn read_line(connection: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    connection.read_line(&mut line).expect("the server answers");
    line.trim_end_matches("\r\n").to_owned()
}
