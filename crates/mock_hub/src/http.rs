//! Requests and replies as bytes on a socket, so that a reply can be as wrong as a test wants it.

use std::io::{self, BufRead, Read, Write};

/// A connection, with TLS or without.
pub(crate) trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

/// The head of a request; bodies are not expected.
pub(crate) struct Request {
    pub method: String,
    /// With the query, as it came.
    pub target: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Request {
    /// Reads the next one; nothing if the client has left.
    pub fn read(from: &mut impl BufRead) -> Option<Request> {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|&bytes| 0 < bytes)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => return Some(Request { method, target, headers }),
            }
        }
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first byte of a range to the end, as in `bytes=5-`.
    pub fn first_byte(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is sent back.
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// What is said of the body's length, where that is not its length.
    pub claimed_length: Option<usize>,
    /// How the connection ends, unless it goes on.
    pub end: Option<End>,
}

/// How a connection ends before its reply does.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// It is closed.
    Closed,
    /// Nothing more comes until the client leaves.
    Silent,
}

impl Reply {
    /// A reply with no more than a status.
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), claimed_length: None, end: None }
    }

    /// A reply with a header more.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Reply {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Sends it; whether the connection goes on, or is to be closed now. To `HEAD` the body's length is
    /// told, not the body.
    pub fn write(&self, to: &mut dyn Connection, method: &str) -> io::Result<bool> {
        let length = self.claimed_length.unwrap_or(self.body.len());
        let mut head = format!("HTTP/1.1 {} Said\r\ncontent-length: {length}\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        to.write_all((head + "\r\n").as_bytes())?;
        if method != "HEAD" {
            to.write_all(&self.body)?;
        }
        to.flush()?;
        if matches!(self.end, Some(End::Silent)) {
            let _nothing_or_the_end = to.read(&mut [0])?;
        }
        Ok(self.end.is_none())
    }
}
