//! The binary as a process: run to its end, or serving.

use std::fs::File;
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{self, Open, Reply};

/// Longest wait for anything; a test that comes near it has failed.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at a process or a gauge.
const PAUSE: Duration = Duration::from_millis(10);

/// The model that answers well.
pub const REAL: &[&str] = &["--kv-cache-memory-bytes", "256MiB"];
/// The model that is small.
pub const TINY: &[&str] = &["--model", "dummy:tiny", "--kv-cache-memory-bytes", "64MiB"];

/// Looks again and again until `find` finds something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        sleep(PAUSE);
    }
}

/// A run of `millrace`. Killed when dropped.
pub struct Process {
    child: Child,
    stdout: File,
    stderr: File,
}

/// What a run has left.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The exit code; a signal has none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The stdout of a run that must have succeeded.
    #[track_caller]
    pub fn output(&self) -> &str {
        assert!(self.status.success(), "{self:#?}");
        &self.stdout
    }
}

/// Runs `millrace` to its end.
#[track_caller]
pub fn millrace<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Ended {
    Process::start(arguments, "").end()
}

/// Runs `millrace` to its end with so many bytes of address space.
pub fn millrace_within(bytes: u64, arguments: &[&str]) -> Ended {
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={bytes}")).arg(env!("CARGO_BIN_EXE_millrace")).args(arguments);
    let output = command.output().expect("util-linux is there");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ended { status: output.status, stdout, stderr }
}

impl Process {
    /// Starts `millrace` with `input` on stdin.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>, input: &str) -> Process {
        let mut stdin = temporary_file();
        stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).expect("it is ours");
        Process::start_reading(arguments, stdin.into())
    }

    /// Starts `millrace` where nothing can be written to stdout.
    pub fn start_without_room<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Process {
        let full = File::options().write(true).open("/dev/full").expect("this is Linux");
        Process::start_between(arguments, Stdio::null(), full)
    }

    fn start_reading<'a>(arguments: impl IntoIterator<Item = &'a str>, stdin: Stdio) -> Process {
        Process::start_between(arguments, stdin, temporary_file())
    }

    fn start_between<'a>(
        arguments: impl IntoIterator<Item = &'a str>,
        stdin: Stdio,
        stdout: File,
    ) -> Process {
        Process::start_logging_to(temporary_file(), arguments, stdin, stdout)
    }

    fn start_logging_to<'a>(
        stderr: File,
        arguments: impl IntoIterator<Item = &'a str>,
        stdin: Stdio,
        stdout: File,
    ) -> Process {
        let twin = |file: &File| file.try_clone().expect("descriptors are left");
        let child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(arguments)
            .stdin(stdin)
            .stdout(twin(&stdout))
            .stderr(twin(&stderr))
            .spawn()
            .expect("the binary was built");
        Process { child, stdout, stderr }
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: "TERM", "INT", "KILL".
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status().expect("there is a shell");
        assert!(sent.success(), "{command}");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = wait_for("the end of a run", || self.child.try_wait().expect("it is ours"));
        Ended { status, stdout: contents(&self.stdout), stderr: contents(&self.stderr) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn temporary_file() -> File {
    tempfile::tempfile().expect("temporary files can be made")
}

/// All that was written to `file`. Its position is the writer's too, and stays.
fn contents(file: &File) -> String {
    let length = file.metadata().expect("it is ours").len();
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).expect("it only grows");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A `millrace serve` on a free port. Killed when dropped.
pub struct Server {
    process: Process,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it with these options, among them the model, and waits until it is ready.
    #[track_caller]
    pub fn start<'a>(options: impl IntoIterator<Item = &'a str>) -> Server {
        Server::start_logging_to(temporary_file(), options)
    }

    /// The same, with its log on `stderr`.
    #[track_caller]
    pub fn start_logging_to<'a>(
        stderr: File,
        options: impl IntoIterator<Item = &'a str>,
    ) -> Server {
        let arguments = ["serve", "--port", "0"].into_iter().chain(options);
        let stdout = temporary_file();
        Server::ready(Process::start_logging_to(stderr, arguments, Stdio::piped(), stdout))
    }

    /// The same on the port given.
    #[track_caller]
    pub fn start_on<'a>(port: &'a str, options: impl IntoIterator<Item = &'a str>) -> Server {
        let arguments = ["serve", "--port", port].into_iter().chain(options);
        Server::ready(Process::start_reading(arguments, Stdio::piped()))
    }

    /// The same with no more than `count` file descriptors.
    #[track_caller]
    pub fn start_with_descriptors<'a>(
        count: u32,
        options: impl IntoIterator<Item = &'a str>,
    ) -> Server {
        let server = Server::start(options);
        let limit = format!("prlimit --pid {} --nofile={count}", server.process.id());
        let set = Command::new("sh").args(["-c", &limit]).status().expect("there is a shell");
        assert!(set.success(), "{limit}");
        server
    }

    /// Processor time that it has taken, its own and the system's, in hundredths of a second.
    pub fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let stat = stat.expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in brackets");
        let fields = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>());
        fields.map(|ticks| ticks.expect("a number")).sum()
    }

    /// Waits until it says where it listens.
    #[track_caller]
    fn ready(mut process: Process) -> Server {
        let url = wait_for("a server", || {
            let stdout = contents(&process.stdout);
            let ended = process.child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "the server did not start: {}", process.stderr());
            stdout.ends_with('\n').then_some(stdout)
        });
        let address = url.trim().split_once("://").and_then(|(_, at)| at.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{url:?} is no address"));
        Server { process, address }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Reply {
        http::get(self.address, path)
    }

    /// `POST path`.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        http::post(self.address, path, body)
    }

    /// `POST path`, to be read as it comes.
    pub fn open(&self, path: &str, body: &Value) -> Open {
        http::open(self.address, path, body)
    }

    /// The value of a series of `/metrics`, labels aside; the sum where there are several.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").body;
        let values: Vec<f64> = page
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')))
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()))
            .map(|value| value.expect("a line ends with its value"))
            .collect();
        assert!(!values.is_empty(), "no {name} in {page}");
        values.iter().sum()
    }

    /// What it has logged.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Closes our end of its stdin.
    pub fn close_stdin(&mut self) {
        drop(self.process.child.stdin.take());
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(self) {
        self.process.signal("KILL");
        assert_eq!(self.process.end().code(), None, "it was a signal");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn end(self) -> Ended {
        self.process.end()
    }
}
