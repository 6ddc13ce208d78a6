//! A hub of models for tests: files in memory behind the hub's routes, on two hosts, with faults on order.
//!
//! It does not know who asks it, what the files hold or what becomes of them. It answers as the hub does:
//! small files by themselves behind a redirect on the same host, large ones (LFS) by a redirect to a second
//! host, which knows them by their hash. Both note what they are asked. It panics where a test would.
#![forbid(unsafe_code)]

mod http;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use http::{Connection, End, Reply, Request};

/// A running hub; it ends with the process of the test.
pub struct MockHub {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By ORG/NAME.
    repositories: BTreeMap<String, Repository>,
    /// Old names and new ones.
    renamed: Vec<(String, String)>,
    faults: Vec<(&'static str, usize, Fault)>,
    asked: Vec<Asked>,
    /// Where large files are.
    store: String,
}

/// Files by their paths.
type Files = BTreeMap<String, (Storage, Vec<u8>)>;

#[derive(Default)]
struct Repository {
    /// Those of `main`.
    files: Files,
    /// Those of other branches, by name.
    branches: BTreeMap<String, Files>,
    /// Who has no such token is refused.
    token: Option<String>,
}

/// How a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the repository, known by its git hash.
    Git,
    /// On the second host, known by its SHA-256.
    Lfs,
}

/// The two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Repositories, and small files.
    Hub,
    /// Large files.
    Store,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where it came.
    pub host: Host,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// The value of `Range`.
    pub range: Option<String>,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// Bytes of the body that was sent back.
    pub sent: usize,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A status and a header, and nothing else.
    Status(u16, &'static str, &'static str),
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// Nothing comes after so many bytes of the body.
    Stall(usize),
    /// The first byte of the body is another one.
    Garbled,
    /// The body is so many bytes shorter, and its length says so.
    Shorter(usize),
    /// So many bytes follow the body, and its length says so.
    Longer(usize),
    /// `Range` is not heeded.
    Whole,
    /// Headers with hashes are left out.
    NoHash,
    /// This is the body.
    Says(&'static str),
    /// A header has this value.
    Header(&'static str, &'static str),
}

impl MockHub {
    /// Starts one without repositories.
    pub fn start() -> MockHub {
        MockHub::listen("http", &|socket| Box::new(socket))
    }

    /// Starts one that speaks TLS, and gives the certificate to know both hosts by, in PEM.
    pub fn start_secure() -> (MockHub, String) {
        let names = vec!["127.0.0.1".to_owned()];
        let signed = generate_simple_self_signed(names).expect("the name is valid");
        let CertifiedKey { cert, signing_key } = signed;
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .expect("the key is the certificate's");
        let config = Arc::new(config);
        let hub = MockHub::listen("https", &move |socket| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("it is configured");
            Box::new(StreamOwned::new(session, socket))
        });
        (hub, cert.pem())
    }

    /// Starts one whose connections are sockets that went through `wrap`.
    fn listen<W>(scheme: &str, wrap: &W) -> MockHub
    where
        W: Fn(TcpStream) -> Box<dyn Connection> + Clone + Send + 'static,
    {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let (hub, store) = (listen(), listen());
        let address = |of: &TcpListener| {
            let address: SocketAddr = of.local_addr().expect("it is bound");
            format!("{scheme}://{address}")
        };
        let endpoint = address(&hub);
        let state = Arc::new(Mutex::new(State { store: address(&store), ..State::default() }));
        for (host, listener) in [(Host::Hub, hub), (Host::Store, store)] {
            let (state, wrap) = (Arc::clone(&state), wrap.clone());
            thread::spawn(move || {
                for socket in listener.incoming().map_while(Result::ok) {
                    let (state, wrap) = (Arc::clone(&state), wrap.clone());
                    // Head and body are written one after the other.
                    socket.set_nodelay(true).expect("it is TCP");
                    thread::spawn(move || serve(wrap(socket), host, &state));
                }
            });
        }
        MockHub { endpoint, state }
    }

    /// The value of `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Adds a file or replaces it, which makes another commit.
    pub fn add(&self, repository: &str, file: &str, storage: Storage, bytes: &[u8]) {
        let mut state = self.state();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        repository.files.insert(file.to_owned(), (storage, bytes.to_vec()));
    }

    /// Gives what `main` has now a name that it keeps.
    pub fn branch(&self, repository: &str, name: &str) {
        let mut state = self.state();
        let repository = state.repositories.get_mut(repository).expect("it was added");
        repository.branches.insert(name.to_owned(), repository.files.clone());
    }

    /// Lets only those in who have this token.
    pub fn gate(&self, repository: &str, token: &str) {
        let mut state = self.state();
        let repository = state.repositories.get_mut(repository).expect("it was added");
        repository.token = Some(token.to_owned());
    }

    /// Gives a repository a new name; the old one leads there.
    pub fn rename(&self, old: &str, new: &str) {
        let mut state = self.state();
        let repository = state.repositories.remove(old).expect("it was added");
        state.repositories.insert(new.to_owned(), repository);
        state.renamed.push((old.to_owned(), new.to_owned()));
    }

    /// Spoils the next `times` replies to requests whose `METHOD target` holds `part`.
    pub fn spoil(&self, part: &'static str, times: usize, fault: Fault) {
        self.state().faults.push((part, times, fault));
    }

    /// The commit that `main` names, 40 hexadecimal digits.
    pub fn commit(&self, repository: &str) -> String {
        self.state().repositories[repository].commit()
    }

    /// What has been asked since the last look.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics within")
    }
}

/// The name that git gives to a file with these bytes.
pub fn git_hash(bytes: &[u8]) -> String {
    let head = format!("blob {}\0", bytes.len());
    hex(&Sha1::new().chain_update(head).chain_update(bytes).finalize())
}

/// The name that LFS gives to a file with these bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Repository {
    fn commit(&self) -> String {
        commit_of(&self.files)
    }

    /// The files of a branch or a commit.
    fn at(&self, revision: &str) -> Option<&Files> {
        if revision == "main" {
            return Some(&self.files);
        }
        let all = || self.branches.values().chain([&self.files]);
        self.branches.get(revision).or_else(|| all().find(|files| commit_of(files) == revision))
    }
}

/// The commit with these files.
fn commit_of(files: &Files) -> String {
    let mut hash = Sha1::new();
    for (path, (_, bytes)) in files {
        hash.update(format!("{path}\0{}\0", sha256(bytes)));
    }
    hex(&hash.finalize())
}

/// Answers what comes on one connection.
fn serve(connection: Box<dyn Connection>, host: Host, state: &Mutex<State>) {
    let mut connection = BufReader::new(connection);
    while let Some(request) = Request::read(&mut connection) {
        let reply = state.lock().expect("no test panics within").reply(host, &request);
        if !reply.write(connection.get_mut(), &request.method).unwrap_or(false) {
            return;
        }
    }
}

impl State {
    /// The reply, spoilt if that was ordered, and a note of it.
    fn reply(&mut self, host: Host, request: &Request) -> Reply {
        let line = format!("{} {}", request.method, request.target);
        let mut faults = self.faults.iter_mut();
        let fault = faults.find(|(part, times, _)| 0 < *times && line.contains(part));
        let fault = fault.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        });
        let first_byte = match fault {
            Some(Fault::Whole) => None,
            _ => request.first_byte(),
        };
        let mut reply = match host {
            Host::Hub => self.of_hub(request, first_byte),
            Host::Store => self.of_store(request, first_byte),
        };
        if let Some(fault) = fault {
            spoil(&mut reply, &fault);
        }
        self.asked.push(Asked {
            host,
            method: request.method.clone(),
            target: request.target.clone(),
            range: request.header("range").map(str::to_owned),
            authorization: request.header("authorization").map(str::to_owned),
            sent: if request.method == "HEAD" { 0 } else { reply.body.len() },
        });
        reply
    }

    fn of_hub(&self, request: &Request, first_byte: Option<usize>) -> Reply {
        let target = request.target.trim_start_matches('/');
        let parts: Vec<&str> = target.split('/').collect();
        // `api/models/ORG/NAME/revision/REVISION`, `ORG/NAME/resolve/COMMIT/FILE` and, for small files,
        // `api/resolve-cache/models/ORG/NAME/COMMIT/FILE`.
        let (at, is_cache) = match parts[..] {
            ["api", "models", ..] => (2, false),
            ["api", "resolve-cache", "models", ..] => (3, true),
            _ => (0, false),
        };
        let Some([org, name, rest @ ..]) = parts.get(at..) else { return missing("RepoNotFound") };
        let name = format!("{org}/{name}");
        if let Some((old, new)) = self.renamed.iter().find(|(old, _)| *old == name) {
            let target = request.target.replacen(old, new, 1);
            return Reply::status(307).with("location", target);
        }
        let Some(repository) = self.repositories.get(&name) else {
            // Whoever has no token is not told whether there is such a repository.
            let status = if request.header("authorization").is_some() { 404 } else { 401 };
            return Reply { status, ..missing("RepoNotFound") };
        };
        let bearer = repository.token.as_ref().map(|token| format!("Bearer {token}"));
        if bearer.is_some() && request.header("authorization") != bearer.as_deref() {
            let status = if request.header("authorization").is_some() { 403 } else { 401 };
            return Reply { status, ..missing("GatedRepo") }
                .with("x-error-message", "Access is restricted");
        }
        match rest {
            ["revision", revision] => repository
                .at(&decoded(revision))
                .map_or_else(|| missing("RevisionNotFound"), listing),
            ["resolve", commit, path @ ..] => {
                self.resolve(&name, repository, commit, &path.join("/"))
            }
            [commit, path @ ..] if is_cache => {
                let files = repository.at(commit);
                match files.and_then(|files| files.get(&decoded(&path.join("/")))) {
                    Some((_, bytes)) => content(bytes, first_byte)
                        .with("x-repo-commit", commit)
                        .with("etag", format!("\"{}\"", git_hash(bytes))),
                    None => missing("EntryNotFound"),
                }
            }
            _ => missing("RevisionNotFound"),
        }
    }

    /// Where a file is.
    fn resolve(&self, name: &str, repository: &Repository, commit: &str, path: &str) -> Reply {
        let Some(files) = repository.at(commit) else { return missing("RevisionNotFound") };
        let Some((storage, bytes)) = files.get(&decoded(path)) else {
            return missing("EntryNotFound");
        };
        let commit = commit_of(files);
        match storage {
            Storage::Git => Reply::status(307)
                .with("x-repo-commit", &commit)
                .with("location", format!("/api/resolve-cache/models/{name}/{commit}/{path}")),
            Storage::Lfs => Reply::status(302)
                .with("x-repo-commit", &commit)
                .with("x-linked-size", bytes.len())
                .with("x-linked-etag", format!("\"{}\"", sha256(bytes)))
                .with("location", format!("{}/{}?signed=yes", self.store, sha256(bytes))),
        }
    }

    fn of_store(&self, request: &Request, first_byte: Option<usize>) -> Reply {
        let hash = request.target.trim_start_matches('/').split('?').next().unwrap_or_default();
        let all = self.repositories.values();
        let all =
            all.flat_map(|repository| repository.branches.values().chain([&repository.files]));
        let found =
            all.flat_map(Files::values).map(|(_, bytes)| bytes).find(|bytes| sha256(bytes) == hash);
        found.map_or_else(|| missing("NoSuchKey"), |bytes| content(bytes, first_byte))
    }
}

fn missing(code: &str) -> Reply {
    Reply::status(404).with("x-error-code", code)
}

fn listing(files: &Files) -> Reply {
    let siblings: Vec<_> = files.keys().map(|path| json!({"rfilename": path})).collect();
    let body = json!({"sha": commit_of(files), "siblings": siblings}).to_string().into_bytes();
    Reply { body, ..Reply::status(200) }
}

/// The bytes from `first_byte` on, or all.
fn content(bytes: &[u8], first_byte: Option<usize>) -> Reply {
    match first_byte {
        None => Reply { body: bytes.to_vec(), ..Reply::status(200) },
        Some(first) if first < bytes.len() => {
            let (last, all) = (bytes.len() - 1, bytes.len());
            let reply = Reply { body: bytes[first..].to_vec(), ..Reply::status(206) };
            reply.with("content-range", format!("bytes {first}-{last}/{all}"))
        }
        Some(_) => Reply::status(416),
    }
}

/// A path without `%` and two digits.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = (*first == b'%').then(|| tail.get(..2)).flatten();
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]),
            None => (bytes.push(*first), rest = tail),
        };
    }
    String::from_utf8(bytes).expect("paths are UTF-8")
}

fn spoil(reply: &mut Reply, fault: &Fault) {
    let length = reply.body.len();
    match *fault {
        Fault::Status(status, name, value) => *reply = Reply::status(status).with(name, value),
        Fault::Cut(kept) | Fault::Stall(kept) => {
            reply.claimed_length = Some(length);
            reply.body.truncate(kept);
            reply.end =
                Some(if matches!(fault, Fault::Cut(_)) { End::Closed } else { End::Silent });
        }
        Fault::Garbled => reply.body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
        Fault::Shorter(by) => reply.body.truncate(length - by),
        Fault::Longer(by) => reply.body.resize(length + by, 0),
        Fault::Whole => {}
        Fault::NoHash => reply.headers.retain(|(name, _)| !name.ends_with("etag")),
        Fault::Says(body) => reply.body = body.as_bytes().to_vec(),
        Fault::Header(name, value) => {
            reply.headers.retain(|(found, _)| *found != name);
            reply.headers.push((name, value.to_owned()));
        }
    }
}
