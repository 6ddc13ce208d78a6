//! The log on stderr, which nobody has to read.
//!
//! Lines pass a bounded queue to a thread that writes them: a pipe that nobody empties or a disk that is
//! full costs lines, and never the service. Lost lines are counted (`millrace:log_dropped_total`).
//!
//! A line is a line: whatever a client's field holds, control characters are written as `\xNN` (in JSON as
//! `\u00NN`, which is all it knows), so that nobody can make up a line, or move the cursor of a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use server::metrics::LogDropped;
use tracing::level_filters::LevelFilter;

/// Lines that wait to be written: a few seconds of a busy server, less than a MiB.
const LINES_MAX: usize = 2048;
/// Longest time in which the end of the log is written when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Pause before a full queue is tried again, then.
const FLUSH_RETRY: Duration = Duration::from_millis(5);

/// What is logged, and how.
#[derive(Args)]
pub struct LogArgs {
    /// How much to log on stderr: error, warn, info or debug.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: LevelFilter,

    /// How lines of the log look: text, or json, an object a line.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// What a line is, for what may stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineForm {
    Text,
    /// Text whose colours are escape sequences.
    ColouredText,
    Json,
}

/// A log that was begun. Dropping it writes what is left, if that can be done in a moment.
pub struct Log {
    queue: SyncSender<Entry>,
    dropped: LogDropped,
}

enum Entry {
    Line(Vec<u8>),
    /// Answered once all lines before it are written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Begins the log of this process. Panics go there too.
    pub fn begin(args: &LogArgs) -> Log {
        let form = match args.log_format {
            LogFormat::Text if io::stderr().is_terminal() => LineForm::ColouredText,
            LogFormat::Text => LineForm::Text,
            LogFormat::Json => LineForm::Json,
        };
        let (log, lines) = Log::channel(LINES_MAX);
        let dropped = log.dropped.clone();
        thread::spawn(move || write_lines(io::stderr(), &lines, &dropped));
        let writer = Writer { queue: log.queue.clone(), dropped: log.dropped.clone(), form };
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(form == LineForm::ColouredText)
            .with_target(false)
            .with_max_level(args.log_level);
        match args.log_format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string);
            tracing::error!(text = panic.payload_as_str(), location, "panic");
        }));
        log
    }

    fn channel(lines_max: usize) -> (Log, Receiver<Entry>) {
        let (queue, lines) = sync_channel(lines_max);
        (Log { queue, dropped: LogDropped::default() }, lines)
    }

    /// Counts the lines that were lost.
    pub fn dropped(&self) -> LogDropped {
        self.dropped.clone()
    }

    /// Waits until all lines so far are written, for a moment at most.
    pub fn flush(&self) {
        let limit = Instant::now() + FLUSH_LIMIT;
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(entry) {
            if limit <= Instant::now() {
                return;
            }
            entry = back;
            thread::sleep(FLUSH_RETRY);
        }
        // Nobody reads it, then; the process may end all the same.
        let _ = written.recv_timeout(limit.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Writes lines as they come, until nobody is left to send any.
fn write_lines(mut sink: impl Write, lines: &Receiver<Entry>, dropped: &LogDropped) {
    for entry in lines {
        match entry {
            Entry::Line(line) => {
                if sink.write_all(&line).and_then(|()| sink.flush()).is_err() {
                    dropped.count();
                }
            }
            // It may have stopped waiting.
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

/// Takes one line in each call, and never waits.
#[derive(Clone)]
struct Writer {
    queue: SyncSender<Entry>,
    dropped: LogDropped,
    form: LineForm,
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(one_line(line, self.form))).is_err() {
            self.dropped.count();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `line` with all control characters escaped, C1 too, but the newline at its end, and the escape of colours
/// where there are any (in values the library has escaped it already).
fn one_line(line: &[u8], form: LineForm) -> Vec<u8> {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    let mut escaped = String::with_capacity(line.len());
    for c in text.chars() {
        match (c, u32::from(c), form) {
            ('\x1b', _, LineForm::ColouredText) => escaped.push(c),
            (_, code, LineForm::Json) if c.is_control() => _ = write!(escaped, "\\u{code:04x}"),
            (_, code, _) if c.is_control() => _ = write!(escaped, "\\x{code:02x}"),
            _ => escaped.push(c),
        }
    }
    escaped.push('\n');
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, form: LineForm) -> String {
        String::from_utf8(one_line(text.as_bytes(), form)).expect("text stays text")
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        assert_eq!(
            line("a\r\nb\x1b[2J\x07\0\u{7f}\u{85}\u{9b}2Jé\u{a0}\n", LineForm::Text),
            "a\\x0d\\x0ab\\x1b[2J\\x07\\x00\\x7f\\x85\\x9b2Jé\u{a0}\n"
        );
        let coloured = line("\x1b[32mINFO\x1b[0m a\nb\n", LineForm::ColouredText);
        assert_eq!(coloured, "\x1b[32mINFO\x1b[0m a\\x0ab\n");
        assert_eq!(line("", LineForm::Text), "\n");
    }

    #[test]
    fn a_line_of_json_stays_json() {
        let written = serde_json::json!({"text": "a\nb\x1b[2J\u{7f}\u{9b}2J\\x7f\"é"});
        let line = line(&format!("{written}\n"), LineForm::Json);
        assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).expect(&line), written);
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_counted_while_nobody_writes() {
        let (log, lines) = Log::channel(3);
        let (queue, dropped) = (log.queue.clone(), log.dropped());
        let mut writer = Writer { queue, dropped, form: LineForm::Text };
        for text in ["0\n", "1\n", "2\n", "3\n", "4\n"] {
            writer.write_all(text.as_bytes()).expect("it never fails");
        }
        assert_eq!(log.dropped().total(), 2);
        let mut written = Vec::new();
        for entry in lines.try_iter() {
            let Entry::Line(line) = entry else { panic!("nobody has asked for an end") };
            written.extend(line);
        }
        assert_eq!(written, b"0\n1\n2\n");
    }

    /// A disk that is full.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_is_tried() {
        let (log, lines) = Log::channel(8);
        let dropped = log.dropped();
        for text in ["a\n", "b\n"] {
            log.queue.try_send(Entry::Line(text.into())).expect("there is room");
        }
        let writing = thread::spawn(move || write_lines(Full, &lines, &dropped));
        log.flush();
        assert_eq!(log.dropped().total(), 2);
        drop(log);
        writing.join().expect("it ends with the log");
    }
}
