//! Headless Chromium for tests: opens a page, types, looks at what became of it.
//!
//! It does not know what it looks at: pages are addresses, questions to them are JavaScript. It panics
//! where a test would, with what the page shows.
//!
//! The browser is driven over its debugging pipe: messages in JSON, each ended by a zero byte, on its
//! file descriptors 3 (in) and 4 (out), which a shell connects to its own 0 and 1.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the browser may say nothing before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the page may take for anything, in milliseconds.
const LIMIT_MS: u32 = 60_000;
/// `$0` is the folder for the browser's profile.
const START: &str = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --remote-debugging-pipe --user-data-dir=\"$0\" about:blank 3<&0 4>&1 </dev/null >&2";

/// What a reader sets on a browser.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Pixels of the width.
    pub width: u32,
    /// Pixels of the height.
    pub height: u32,
    /// `light` or `dark`.
    pub theme: &'static str,
}

/// A running browser with one page.
#[derive(Debug)]
pub struct Chromium {
    process: Child,
    pipe: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// What the page wrote to the console, threw, or was refused.
    pub complaints: Vec<String>,
    /// Addresses that the page asked for, itself included.
    pub requests: Vec<String>,
    is_loaded: bool,
    _profile: TempDir,
}

impl Chromium {
    /// Starts it. Panics if it is not installed.
    pub fn start() -> Chromium {
        let profile = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.arg("-c").arg(START).arg(profile.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("a shell");
        let pipe = process.stdin.take().expect("it is piped");
        let output = process.stdout.take().expect("it is piped");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Chromium {
            process,
            pipe,
            messages,
            session: None,
            last_id: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            is_loaded: false,
            _profile: profile,
        };
        browser.attach();
        browser
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}));
        let parameters = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call("Target.attachToTarget", parameters);
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            self.call(domain, json!({}));
        }
    }

    /// Opens `url` as a reader with `view` would; forgets what earlier pages did.
    pub fn open(&mut self, url: &str, view: View) {
        let View { width, height, theme } = view;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let theme = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": theme}));
        self.load("Page.navigate", json!({"url": "about:blank"}));
        self.complaints.clear();
        self.requests.clear();
        self.load("Page.navigate", json!({"url": url}));
    }

    /// Loads the page again.
    pub fn reload(&mut self) {
        self.load("Page.reload", json!({}));
    }

    fn load(&mut self, method: &str, parameters: Value) {
        self.is_loaded = false;
        self.call(method, parameters);
        while !self.is_loaded {
            self.receive();
        }
    }

    /// The value of a JavaScript expression, as JSON; of a promise, what it promises.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
            "userGesture": true,
        });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a JavaScript condition holds.
    #[track_caller]
    pub fn until(&mut self, condition: &str) {
        let holds = self.value(&format!(
            "new Promise(done => {{
                const start = performance.now();
                const look = () => {{
                    if ({condition}) done(true);
                    else if ({LIMIT_MS} < performance.now() - start) done(false);
                    else setTimeout(look, 20);
                }};
                look();
            }})"
        ));
        let page = self.value("document.body.innerText");
        assert_eq!(holds, true, "waited in vain for {condition} on {page}");
    }

    /// Writes `text` where the focus is.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses a key; `modifiers` is 8 with shift, else 0.
    pub fn press(&mut self, key: &str, modifiers: u32) {
        let code = if key == "Enter" { 13 } else { 27 };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
                "modifiers": modifiers,
            });
            if kind == "keyDown" {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Writes a picture (PNG) of what is seen to `path`.
    pub fn picture(&mut self, path: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let data = picture["data"].as_str().expect("a picture");
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data);
        std::fs::write(path, bytes.expect("it is Base64")).expect("the folder can be written");
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.pipe, "{message}\0").expect("the browser is there");
        loop {
            let answer = self.receive();
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn receive(&mut self) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        let message =
            message.expect("Chromium answers; is it installed (apt-get install chromium)?");
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded") => {
                self.complaints.push(parameters.to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or("no address");
                self.requests.push(url.to_owned());
            }
            Some("Page.loadEventFired") => self.is_loaded = true,
            _ => {}
        }
        message
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The shell became the browser, which may have become several processes: ask it first.
        let close = json!({"id": 0, "method": "Browser.close"});
        if write!(self.pipe, "{close}\0").is_ok() {
            while self.messages.recv_timeout(PATIENCE).is_ok() {}
        }
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
