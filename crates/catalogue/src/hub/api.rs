//! What is asked of the hub about one repository: its files, the hash of one, its bytes.

use std::io::Read;
use std::thread;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::BodyReader;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, RETRY_AFTER};
use ureq::http::{Method, Uri};

use super::layout::{is_commit, is_hex};
use super::name::{Name, check_path};
use super::settings::Settings;
use super::web::{Answer, Failure, Follow, Web, bad_reply, host, said};
use crate::error::Error;
use crate::progress::Progress;

/// Largest description of a repository that is read; one with 10,000 files has about a megabyte.
const LISTING_BYTES_MAX: u64 = 32 << 20;
/// What of a path need not be escaped in an address (RFC 3986, 2.3), and the `/` between its parts.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// The same of a revision, which is one part of an address.
const ESCAPED_PART: &AsciiSet = &ESCAPED.add(b'/');
/// How often something is tried before it counts as failed, where there is time.
const TRIES: u32 = 5;
/// Pause after the first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause that a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);

const REPO_COMMIT: &str = "x-repo-commit";
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";
const ERROR_CODE: &str = "x-error-code";
const ERROR_MESSAGE: &str = "x-error-message";

/// One repository on the hub.
pub(super) struct Hub {
    web: Web,
    /// The address of the hub.
    endpoint: String,
    /// ORG/NAME.
    repository: String,
    /// A branch, a tag or a commit.
    revision: String,
    has_token: bool,
    /// How often something is tried before it counts as failed.
    tries: u32,
    pause: Duration,
}

/// What a repository holds.
pub(super) struct Listing {
    /// What the revision names, 40 hexadecimal digits.
    pub commit: String,
    /// Paths of all files.
    pub files: Vec<String>,
}

/// A file of a commit.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    pub commit: String,
    pub path: String,
    pub hash: Hash,
    /// Its length.
    pub bytes: u64,
}

/// What a file must hash to, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-1 of `blob`, the length and the bytes, as git has it; 40 digits.
    Git(String),
    /// SHA-256 of the bytes; 64 digits.
    Sha256(String),
}

/// The bytes of a file from some byte on.
pub(super) struct Content {
    /// Where they begin: where it was asked for, or 0.
    pub first: u64,
    pub reader: BodyReader<'static>,
    /// Who sends them.
    pub url: Uri,
}

/// How often something is tried again.
pub(super) struct Patience {
    tries: u32,
    tries_max: u32,
    pause: Duration,
    first_pause: Duration,
    host: String,
}

impl Hash {
    /// The name of the blob.
    pub fn name(&self) -> &str {
        match self {
            Self::Git(name) | Self::Sha256(name) => name,
        }
    }
}

impl Hub {
    /// Asks about the repository of a name, at its revision, by these settings.
    pub fn new(settings: &Settings, name: &Name) -> Result<Self, Error> {
        Ok(Self::with(settings, name, Web::new(settings)?, PAUSE))
    }

    /// The same with another patience.
    pub(super) fn with(settings: &Settings, name: &Name, web: Web, pause: Duration) -> Self {
        Self {
            web,
            endpoint: settings.endpoint.clone(),
            repository: name.repository().to_owned(),
            revision: name.revision().to_owned(),
            has_token: settings.token.is_some(),
            tries: TRIES,
            pause,
        }
    }

    /// The same without patience.
    pub fn asked_once(self) -> Self {
        Self { tries: 1, ..self }
    }

    /// Which files there are.
    pub fn listing(&self, say: &mut dyn FnMut(Progress)) -> Result<Listing, Error> {
        let revision = utf8_percent_encode(&self.revision, ESCAPED_PART);
        let url = self.url(&format!("api/models/{}/revision/{revision}", self.repository));
        self.patiently(say, || {
            let answer = self.web.ask(&Method::GET, &url, 0, Follow::OnHost)?;
            let mut answer = self.accept(answer, None)?;
            if let Some(elsewhere) = &answer.elsewhere {
                return Err(Failure::Lasting(Error::HubElsewhere {
                    endpoint: self.endpoint.clone(),
                    target: host(elsewhere),
                }));
            }
            let body =
                answer.response.body_mut().with_config().limit(LISTING_BYTES_MAX).read_to_vec();
            let body = body.map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(limit) => {
                    bad_reply(&url, format!("it is longer than {limit} bytes"))
                }
                error => Failure::passing(error),
            })?;
            listing_of(&body).map_err(|reason| bad_reply(&url, reason))
        })
    }

    /// The hash and the length of a file, which it is then held to.
    pub fn file(
        &self,
        commit: &str,
        path: &str,
        say: &mut dyn FnMut(Progress),
    ) -> Result<RemoteFile, Error> {
        let url = self.url_of(commit, path);
        self.patiently(say, || {
            let answer = self.web.ask(&Method::HEAD, &url, 0, Follow::OnHost)?;
            let answer = self.accept(answer, Some(path))?;
            let headers = answer.response.headers();
            if text(headers, REPO_COMMIT).is_some_and(|found| found != commit) {
                return Err(bad_reply(&url, "it is of another commit"));
            }
            let etag = text(headers, LINKED_ETAG).or_else(|| text(headers, ETAG.as_str()));
            let hash = etag.and_then(hash_of).ok_or_else(|| {
                let etag = etag.unwrap_or("nothing");
                bad_reply(&url, format!("it names no hash to check the file by, but {etag}"))
            })?;
            // The length of a redirect is that of its own body.
            let own = text(headers, CONTENT_LENGTH.as_str());
            let own = own.filter(|_| !answer.response.status().is_redirection());
            let bytes = text(headers, LINKED_SIZE).or(own).and_then(|bytes| bytes.parse().ok());
            let bytes =
                bytes.ok_or_else(|| bad_reply(&url, "it does not say how long the file is"))?;
            Ok(RemoteFile { commit: commit.to_owned(), path: path.to_owned(), hash, bytes })
        })
    }

    /// The bytes of a file from `first` on, or from 0 on if the server cannot skip.
    pub fn content(&self, file: &RemoteFile, first: u64) -> Result<Content, Failure> {
        let url = self.url_of(&file.commit, &file.path);
        let answer = self.web.ask(&Method::GET, &url, first, Follow::Anywhere)?;
        let Answer { response, url, .. } = self.accept(answer, Some(&file.path))?;
        let headers = response.headers();
        let first = match response.status().as_u16() {
            200 => 0,
            206 => {
                let range = text(headers, CONTENT_RANGE.as_str()).unwrap_or("nothing");
                let expected = format!("bytes {first}-{}/{}", file.bytes - 1, file.bytes);
                if range != expected {
                    return Err(bad_reply(&url, format!("it sends {range} and not {expected}")));
                }
                first
            }
            status => return Err(bad_reply(&url, format!("it answers with status {status}"))),
        };
        let length = text(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        let expected = file.bytes - first;
        if length.is_some_and(|length: u64| expected < length) {
            return Err(bad_reply(&url, format!("it sends {length:?} bytes and not {expected}")));
        }
        // One byte more than expected is enough to see that there are too many.
        let reader =
            response.into_body().into_with_config().limit(expected.saturating_add(1)).reader();
        Ok(Content { first, reader, url })
    }

    /// Tries for a while.
    fn patiently<T>(
        &self,
        say: &mut dyn FnMut(Progress),
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut patience = self.patience();
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(failure) => patience.wait(failure, say)?,
            }
        }
    }

    /// Full patience.
    pub fn patience(&self) -> Patience {
        let host = host(&self.url(""));
        let (tries_max, pause) = (self.tries, self.pause);
        Patience { tries: 0, tries_max, pause, first_pause: pause, host }
    }

    fn url(&self, path: &str) -> Uri {
        format!("{}/{path}", self.endpoint).parse().expect("its parts are checked or escaped")
    }

    fn url_of(&self, commit: &str, path: &str) -> Uri {
        let path = utf8_percent_encode(path, ESCAPED);
        self.url(&format!("{}/resolve/{commit}/{path}", self.repository))
    }

    /// Lets pass what is no error.
    fn accept(&self, answer: Answer, file: Option<&str>) -> Result<Answer, Failure> {
        let status = answer.response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(answer);
        }
        let headers = answer.response.headers();
        let reason = format!("{} answers with status {status}", host(&answer.url));
        // A link to large files holds for some time; the hub gives another one.
        let is_expired = !answer.is_of_hub && status == 403;
        if is_expired || matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
            let after = text(headers, RETRY_AFTER.as_str()).and_then(|after| after.parse().ok());
            let after = after.map(|seconds| Duration::from_secs(seconds).min(PAUSE_MAX));
            return Err(Failure::Passing { reason, after });
        }
        if !answer.is_of_hub {
            return Err(bad_reply(&answer.url, reason));
        }
        let code = text(headers, ERROR_CODE).unwrap_or_default();
        let error = match (status.as_u16(), file) {
            (401 | 403, _) if code == "GatedRepo" => self.gated(headers),
            (404, Some(file)) if code != "RepoNotFound" => Error::NoHubFile {
                repository: self.repository.clone(),
                reason: format!("it has no file `{file}`"),
            },
            (404, None) if code == "RevisionNotFound" => Error::NoHubFile {
                repository: self.repository.clone(),
                reason: format!("it has no branch, tag or commit `{}`", self.revision),
            },
            (401 | 404, _) => Error::NoHubRepository {
                repository: self.repository.clone(),
                page: self.page(),
                token: match self.has_token {
                    true => "the token that was sent may not read it",
                    false => "set HF_TOKEN to a token that may read it",
                },
            },
            (403, _) => self.gated(headers),
            _ => return Err(bad_reply(&answer.url, reason)),
        };
        Err(Failure::Lasting(error))
    }

    fn gated(&self, headers: &HeaderMap) -> Error {
        let reason = text(headers, ERROR_MESSAGE).unwrap_or("access is restricted");
        Error::HubGated {
            repository: self.repository.clone(),
            page: self.page(),
            said: said(reason),
        }
    }

    /// Where a person reads about the repository.
    fn page(&self) -> String {
        format!("{}/{}", self.endpoint, self.repository)
    }
}

impl Patience {
    /// Waits until the next try is due. Error: what failed will fail again, or has failed too often.
    pub fn wait(&mut self, failure: Failure, say: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let (reason, after) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing { reason, after } => (reason, after),
        };
        self.tries += 1;
        if self.tries == self.tries_max {
            let (host, tries) = (self.host.clone(), self.tries);
            return Err(Error::HubUnreachable { host, reason, tries });
        }
        say(Progress::Retrying { reason });
        thread::sleep(after.unwrap_or(self.pause));
        self.pause *= 2;
        Ok(())
    }

    /// Forgets failures, since something has gone well.
    pub fn renew(&mut self) {
        (self.tries, self.pause) = (0, self.first_pause);
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The hash that an entity tag is: `"…"`, perhaps with `W/` before it.
fn hash_of(etag: &str) -> Option<Hash> {
    let hash = etag.trim_start_matches("W/").trim_matches('"').to_owned();
    if is_hex(&hash, 40) {
        Some(Hash::Git(hash))
    } else {
        is_hex(&hash, 64).then_some(Hash::Sha256(hash))
    }
}

/// Reads the description of a repository. Files that could not be kept under their paths are left out.
fn listing_of(body: &[u8]) -> Result<Listing, String> {
    #[derive(serde::Deserialize)]
    struct Description {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(serde::Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    let description: Description =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if !is_commit(&description.sha) {
        return Err(format!("`{}` is no commit", description.sha.escape_debug()));
    }
    let files = description.siblings.into_iter().map(|sibling| sibling.rfilename);
    let files = files.filter(|path| check_path(path).is_ok()).collect();
    Ok(Listing { commit: description.sha, files })
}
