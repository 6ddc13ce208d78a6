//! A `millrace serve` of our own, for the length of a load test.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of the server's log that are kept, to be shown if it fails.
const LOG_LINES: usize = 40;
/// How long a server may take to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A server in a process of its own; it ends when this is dropped.
pub struct ServerProcess {
    child: Child,
    /// Where it listens.
    pub url: String,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl ServerProcess {
    /// Starts `millrace serve` with these options on a free loopback port and waits until it is
    /// ready.
    pub fn start(options: Vec<OsString>) -> Result<ServerProcess> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut child = Command::new(program)
            .args(["serve", "--host", "127.0.0.1", "--port", "0", "--stop-with-stdin"])
            .args(options)
            // Held open until this is dropped or this process ends, however it ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for the load test, which then ends the server.
            .process_group(0)
            .spawn()
            .context("cannot start the server")?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("stderr was piped");
        let stdout = child.stdout.take().expect("stdout was piped");
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || keep_last_lines(BufReader::new(stderr), &log)
        });
        let mut process = ServerProcess { child, url: String::new(), log, reader: Some(reader) };
        let read = BufReader::new(stdout).read_line(&mut process.url);
        process.url.truncate(process.url.trim_end().len());
        if read.is_err() || process.url.is_empty() {
            // It closed stdout without an address: it has ended, and its log says why.
            process.child.wait().context("the server cannot be waited for")?;
            let log = process.log_tail();
            match log.lines().last().and_then(|line| line.strip_prefix("millrace: ")) {
                Some(cause) => bail!("the server did not start: {cause}"),
                None => bail!("the server did not start:\n{log}"),
            }
        }
        Ok(process)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of the server's log.
    pub fn log_tail(&mut self) -> String {
        let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
        if let Some(reader) = self.reader.take_if(|_| ended) {
            // It ends with the server's stderr.
            let _ = reader.join();
        }
        let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        log.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Whether the server still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }
}

fn keep_last_lines(lines: impl BufRead, log: &Mutex<VecDeque<String>>) {
    for line in lines.lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        // The server ends with its stdin.
        drop(self.child.stdin.take());
        let limit = Instant::now() + STOP_LIMIT;
        while self.is_running() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_running() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
