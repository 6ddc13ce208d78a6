//! `millrace serve` with a model of random weights: large enough that an answer takes a while.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server on a free port. Killed when dropped.
pub struct Server {
    process: Child,
    pub url: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub fn start(options: &[&str]) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["serve", "--port", "0", "--model", "dummy:smollm2-135m"])
            .args(["--kv-cache-memory-bytes", "256MiB", "--log-level", "error"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut url = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut url).expect("it says where it listens");
        assert!(url.starts_with("http://"), "the server did not start");
        Server { process, url: url.trim_end().to_owned() }
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
