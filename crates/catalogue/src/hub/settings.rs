//! What the environment says of the hub, in the variables that all its clients read.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ureq::http::{HeaderValue, Uri};

use crate::error::Error;

/// Where the hub is unless `HF_ENDPOINT` says otherwise, as all its clients have it.
const ENDPOINT: &str = "https://huggingface.co";
/// Longest file with a token that is read; tokens have about 40 characters.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// What whoever loads models reads of one at most: more is not fetched.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files that the weights are in.
    pub files: usize,
    /// Bytes of the index that says which shards there are.
    pub index_bytes: u64,
}

/// Where the hub is, who asks, and where files are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a `/` at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    /// Of all clients of the hub; it need not exist.
    pub(super) cache: PathBuf,
    pub(super) is_offline: bool,
    pub(super) limits: Limits,
}

/// Who asks. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(HeaderValue);

impl Settings {
    /// Reads the variables that `huggingface_hub` reads: `HF_ENDPOINT`; `HF_TOKEN`, or else the file
    /// `HF_TOKEN_PATH` (`$HF_HOME/token`), unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` forbids it;
    /// `HF_HUB_CACHE` (`$HF_HOME/hub`); `HF_HOME` (`$XDG_CACHE_HOME/huggingface`, else
    /// `$HOME/.cache/huggingface`); `HF_HUB_OFFLINE`. A variable that is empty counts as not set.
    ///
    /// Error: a value cannot be used, or no variable says where files are kept.
    pub fn from_environment(limits: Limits) -> Result<Self, Error> {
        Self::of(limits, |name| env::var_os(name))
    }

    /// The folder that all clients of the hub keep files in; it need not exist.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// What `get` says of each variable.
    pub(super) fn of(
        limits: Limits,
        get: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let user = get("HOME").map(PathBuf::from);
        let path = |name: &str| get(name).map(|value| in_home(value, user.as_deref()));
        let text = |name: &'static str| match get(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(bad(name, "it is not UTF-8")),
        };
        let is_on = |name| text(name).map(|value| value.is_some_and(|value| is_true(&value)));

        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME");
            let caches = caches.or_else(|| user.as_ref().map(|user| user.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or_else(|| {
            bad("HF_HOME", "neither it nor HF_HUB_CACHE, XDG_CACHE_HOME or HOME is set")
        })?;
        let token = match text("HF_TOKEN")? {
            _ if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")? => None,
            Some(text) => {
                Token::of(&text, || bad("HF_TOKEN", "it is no token: ASCII in one line"))?
            }
            None => {
                let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
                file.map_or(Ok(None), |file| Token::read(&file))?
            }
        };
        Ok(Self {
            endpoint: endpoint(text("HF_ENDPOINT")?.as_deref().unwrap_or(ENDPOINT))?,
            token,
            cache,
            is_offline: is_on("HF_HUB_OFFLINE")?,
            limits,
        })
    }
}

impl Token {
    /// Nothing if the text is empty but for space around it.
    fn of(text: &str, refused: impl FnOnce() -> Error) -> Result<Option<Self>, Error> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let is_token = text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = is_token.then(|| HeaderValue::from_str(&format!("Bearer {text}")).ok());
        let Some(mut value) = value.flatten() else { return Err(refused()) };
        value.set_sensitive(true);
        Ok(Some(Self(value)))
    }

    /// Nothing if there is no such file.
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Self::of(&text, || {
                let refused = io::Error::other("it holds no token: ASCII in one line");
                Error::io("read the token in", path)(refused)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read the token in", path)(error)),
        }
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What counts as true, as `huggingface_hub` has it.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// A path whose leading `~` is the user's folder.
fn in_home(value: OsString, user: Option<&Path>) -> PathBuf {
    let path = PathBuf::from(value);
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

fn endpoint(text: &str) -> Result<String, Error> {
    let text = text.trim_end_matches('/');
    let uri: Uri = text.parse().map_err(|_| bad("HF_ENDPOINT", "it is no address"))?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if !is_web || !is_plain || uri.query().is_some() || text.contains('#') {
        return Err(bad("HF_ENDPOINT", "it is not of the form https://HOST or https://HOST/PATH"));
    }
    Ok(text.to_owned())
}

fn bad(variable: &'static str, reason: &'static str) -> Error {
    Error::BadHubSetting { variable, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::of(Limits { files: 1, index_bytes: 1 }, |name| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_the_hubs_clients_have_it() {
        let cache = |variables: &[_]| of(variables).map(|settings| settings.cache).ok();
        let path = |text: &str| Some(PathBuf::from(text));
        let all = [
            ("HF_HUB_CACHE", "/1"),
            ("HUGGINGFACE_HUB_CACHE", "/2"),
            ("HF_HOME", "~/3"),
            ("XDG_CACHE_HOME", "/4"),
            ("HOME", "/5"),
        ];
        let expected =
            ["/1", "/2", "/5/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"].map(path);
        for (from, expected) in expected.into_iter().enumerate() {
            assert_eq!(cache(&all[from..]), expected);
        }
        assert_eq!(
            cache(&[("HF_HUB_CACHE", ""), ("HOME", "/5")]),
            path("/5/.cache/huggingface/hub")
        );
        assert_eq!(cache(&[]), None);
    }

    #[test]
    fn the_token_is_the_variables_or_the_files_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| {
            let settings = of(&[variables, &[("HF_HOME", home)]].concat())?;
            let token = settings.token.map(|token| token.header().to_str().unwrap().to_owned());
            Ok::<_, Error>(token)
        };
        assert_eq!(token(&[]).unwrap(), None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[]).unwrap().unwrap(), "Bearer hf_file");
        assert_eq!(
            token(&[("HF_TOKEN", " hf_variable\n")]).unwrap().unwrap(),
            "Bearer hf_variable"
        );
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")]).unwrap(), None);
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere")]).unwrap(), None);
        let error = token(&[("HF_TOKEN", "hf_one\nhf_two")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hf_one"), "{error}");
        assert!(error.to_string().contains("HF_TOKEN"), "{error}");

        let settings = of(&[("HF_TOKEN", "hf_secret"), ("HOME", "/h")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
    }

    #[test]
    fn the_address_is_held_to_its_form() {
        let address = |text: &str| {
            of(&[("HF_ENDPOINT", text), ("HOME", "/h")]).map(|settings| settings.endpoint).ok()
        };
        assert_eq!(address("http://127.0.0.1:8/"), Some("http://127.0.0.1:8".to_owned()));
        assert_eq!(address("https://a.b/c/"), Some("https://a.b/c".to_owned()));
        assert_eq!(address(""), Some(ENDPOINT.to_owned()));
        for text in
            ["a.b", "ftp://a.b", "https://", "https://a.b?c", "https://a:b@c", "https://a#b"]
        {
            assert_eq!(address(text), None, "{text}");
        }
        let offline = |value| of(&[("HF_HUB_OFFLINE", value), ("HOME", "/h")]).unwrap().is_offline;
        assert!(offline("1") && offline("true") && !offline("0") && !offline(""));
    }
}
