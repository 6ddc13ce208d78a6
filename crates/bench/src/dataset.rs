//! A file of recorded requests, and the order in which a run sends them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use workload::dataset::{Dataset, Item, Prompt};

use crate::error::BenchError;

/// Largest file, bytes: ShareGPT's has 640 MB.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// A file of recorded requests.
#[derive(Debug, PartialEq)]
pub struct DatasetFile {
    /// Which file it is.
    pub name: DatasetName,
    /// The requests.
    pub dataset: Dataset,
    /// When each request is due after the first, nanoseconds, if they are sent when they were recorded.
    times_ns: Option<Vec<u64>>,
}

/// Which file of requests a run sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetName {
    /// Name of the file, without its folder.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Requests in it.
    pub requests: usize,
}

impl DatasetFile {
    /// Reads requests to be sent in an order of the run's seed.
    ///
    /// # Errors
    /// A file that cannot be read, is too large or has no requests, with the line at fault.
    pub fn read(path: &Path) -> Result<DatasetFile, BenchError> {
        let bad = |why: String| BenchError::Dataset { file: path.to_owned(), why };
        let mut bytes = Vec::new();
        let read = |bytes: &mut Vec<u8>| {
            File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(bytes).map(drop)
        };
        read(&mut bytes).map_err(|error| bad(format!("cannot read it: {error}")))?;
        if FILE_BYTES_MAX < bytes.len() as u64 {
            return Err(bad(format!("it is larger than {FILE_BYTES_MAX} bytes; cut it")));
        }
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = String::from_utf8(bytes)
            .map_err(|error| bad(format!("it is not UTF-8: {}", error.utf8_error())))?;
        let dataset = Dataset::parse(&text).map_err(|error| bad(error.to_string()))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = DatasetName { file, sha256, requests: dataset.items.len() };
        Ok(DatasetFile { name, dataset, times_ns: None })
    }

    /// Reads requests to be sent when they were recorded.
    ///
    /// # Errors
    /// Those of [`DatasetFile::read`]; a request without a time.
    pub fn read_trace(path: &Path) -> Result<DatasetFile, BenchError> {
        let DatasetFile { name, dataset, .. } = DatasetFile::read(path)?;
        let trace = dataset.into_trace().map_err(|line| BenchError::Dataset {
            file: path.to_owned(),
            why: format!("line {line} has no `timestamp` (milliseconds) or `timestamp_s`"),
        })?;
        let times_ns = Some(trace.schedule_ns(1.0));
        Ok(DatasetFile { name, dataset: trace.into_dataset(), times_ns })
    }

    /// Whether the requests are sent when they were recorded.
    pub fn is_trace(&self) -> bool {
        self.times_ns.is_some()
    }

    /// Requests of a trace, and the time from the first to the last of so many, seconds.
    pub fn span_s(&self, requests: u32) -> f64 {
        let last = self.times_ns.iter().flatten().take(requests as usize).last();
        last.map_or(0.0, |ns| *ns as f64 / 1e9)
    }

    /// When the first `requests` of a trace are due at so many times the recorded speed, nanoseconds.
    pub fn schedule_ns(&self, requests: u32, speed: f64) -> Vec<u64> {
        let times = self.times_ns.iter().flatten().take(requests as usize);
        times.map(|ns| (*ns as f64 / speed).round() as u64).collect()
    }

    /// In which order a run sends the requests: that of their times if it is a trace, else one of
    /// `seed`.
    pub fn order(&self, seed: u64) -> Vec<usize> {
        match self.is_trace() {
            true => (0..self.dataset.items.len()).collect(),
            false => self.dataset.order(seed),
        }
    }

    /// The line of the first chat, if there is one.
    pub(crate) fn first_chat(&self) -> Option<usize> {
        let is_chat = |item: &&Item| matches!(item.prompt, Prompt::Messages(_));
        self.dataset.items.iter().find(is_chat).map(|item| item.line)
    }
}

/// The requests of a file in the order in which a run sends them, over and over.
#[derive(Debug)]
pub(crate) struct Items {
    file: Arc<DatasetFile>,
    order: Vec<usize>,
    next: usize,
}

impl Items {
    /// The requests of `file` in the order of `seed`, or of their times if it is a trace.
    pub(crate) fn new(file: Arc<DatasetFile>, seed: u64) -> Items {
        let order = file.order(seed);
        Items { file, order, next: 0 }
    }

    /// Goes to where a run is that has sent so many `requests` before: a trace begins again.
    pub(crate) fn go_on_after(&mut self, requests: usize) {
        self.next = if self.file.is_trace() { 0 } else { requests };
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Item {
        let place = self.order[self.next % self.order.len()];
        self.next += 1;
        self.file.dataset.items[place].clone()
    }

    /// Name of the file.
    pub(crate) fn file(&self) -> String {
        self.file.name.file.clone()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> std::path::PathBuf {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it is ours");
        file.into_temp_path().keep().expect("it stays for the test")
    }

    #[test]
    fn a_run_goes_through_all_requests_before_one_comes_again() {
        let text: String = (1..=5).map(|n| format!("{{\"prompt_tokens\": {n}}}\n")).collect();
        let read = DatasetFile::read(&file(&text)).expect("a good file");
        assert_eq!((read.name.requests, read.name.sha256.len()), (5, 64));
        let mut items = Items::new(Arc::new(read), 3);
        let mut lines: Vec<usize> = (0..5).map(|_| items.next().line).collect();
        let again: Vec<usize> = (0..5).map(|_| items.next().line).collect();
        assert_eq!(lines, again);
        items.go_on_after(7);
        assert_eq!(items.next().line, lines[2]);
        lines.sort_unstable();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_trace_is_sent_in_the_order_of_its_times() {
        let text = "{\"timestamp\": 9000, \"prompt_tokens\": 1}\n\
                    {\"timestamp\": 5000, \"prompt_tokens\": 2}\n";
        let trace = DatasetFile::read_trace(&file(text)).expect("a good file");
        assert_eq!((trace.span_s(2), trace.schedule_ns(2, 4.0)), (4.0, vec![0, 1_000_000_000]));
        assert_eq!(trace.schedule_ns(1, 1.0), [0]);
        let mut items = Items::new(Arc::new(trace), 3);
        assert_eq!(items.next().line, 2);
        items.go_on_after(1);
        assert_eq!(items.next().line, 2);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
        let chat = DatasetFile::read(&file(chat)).expect("a good file");
        assert_eq!(chat.first_chat(), Some(1));
        let timeless = DatasetFile::read_trace(&file("{\"prompt_tokens\": 1}"));
        assert!(timeless.expect_err("no time").to_string().contains("line 1 has no `timestamp`"));
        let missing = DatasetFile::read(Path::new("nowhere.jsonl")).expect_err("no file");
        assert!(missing.to_string().contains("`nowhere.jsonl`"), "{missing}");
    }
}
