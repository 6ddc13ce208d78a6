//! What is wrong, gone or not for us is refused, with what to do.

use super::*;

#[test]
fn bytes_that_are_not_the_hubs_are_never_put_in_place() {
    for (storage, part) in [(Storage::Lfs, "signed=yes"), (Storage::Git, "GET /api/resolve-cache")]
    {
        let bench = Bench::new();
        bench.hub.add(REPOSITORY, FILE, storage, &model());
        bench.hub.spoil(part, 1, Fault::Garbled);
        let said = bench.refused("org/tiny");
        let expected = if storage == Storage::Lfs { sha256(&model()) } else { git_hash(&model()) };
        assert!(said.contains(&format!("expected {expected}")), "{said}");
        assert_eq!(names(&bench.repository().join("blobs")), [""; 0]);
        assert!(bench.find("org/tiny").is_none());
        bench.pull("org/tiny").unwrap();
    }
}

#[test]
fn answers_that_promise_another_file_are_refused() {
    let huge = "1000000000000000000";
    for (part, fault, expected) in [
        ("signed=yes", Fault::Longer(1), "2400001"),
        ("HEAD", Fault::NoHash, "names no hash"),
        ("HEAD", Fault::Header("x-linked-etag", "\"../../../../etc/passwd\""), "names no hash"),
        ("HEAD", Fault::Header("x-linked-size", "-1"), "how long"),
        ("HEAD", Fault::Header("x-linked-size", huge), "HF_HOME"),
        ("HEAD", Fault::Header("x-repo-commit", "0"), "another commit"),
        ("HEAD", Fault::Header("location", "/org/tiny/resolve/main/tiny.gguf"), "redirect"),
        ("GET /org", Fault::Header("location", "ftp://x/"), "not followed"),
        ("signed=yes", Fault::Status(206, "content-range", "bytes 0-1/2"), "bytes 0-1/2"),
        ("signed=yes", Fault::Status(404, "x", "y"), "404"),
        ("api/models", Fault::Says("no JSON"), "expected"),
        ("api/models", Fault::Says(r#"{"sha": "../..", "siblings": []}"#), "no commit"),
        ("api/models", Fault::Says(r#"{"siblings": []}"#), "sha"),
    ] {
        let bench = Bench::new();
        bench.hub.spoil(part, 100, fault.clone());
        let said = bench.refused("org/tiny");
        assert!(said.contains(expected), "{fault:?}: {said}");
        assert!(!said.contains("signed"), "links to files are secrets: {said}");
        assert!(bench.find("org/tiny").is_none() && !bench.repository().join("refs").exists());
    }
}

#[test]
fn more_than_is_read_of_a_model_is_not_fetched() {
    let bench = Bench::new();
    add_folder(&bench.hub);
    let shards = |count| (0..count).map(|i| format!(r#""{i}": "{i}.safetensors""#));
    let index = |count, space: usize| {
        let map = shards(count).collect::<Vec<_>>().join(",");
        format!(r#"{{{}"weight_map": {{{map}}}}}"#, " ".repeat(space))
    };
    for (index, expected) in [
        (index(4, 0), "names 4 files, and at most 3 are read"),
        (index(1, 200), "238 bytes are more than 200"),
    ] {
        let file = "model.safetensors.index.json";
        bench.hub.add("org/shards", file, Storage::Git, index.as_bytes());
        let said = bench.refused("org/shards");
        assert!(said.contains(expected), "{said}");
    }
    for number in 1..=4 {
        bench.hub.add("org/split", &format!("x-0000{number}-of-00004.gguf"), Storage::Lfs, b"x");
    }
    let said = bench.refused("org/split");
    assert!(said.contains("one of 4, and at most 3 are read"), "{said}");
    assert_eq!(bench.sent().0, 0);
}

#[test]
fn files_that_would_lie_elsewhere_are_not_even_seen() {
    let bench = Bench::new();
    let body = r#"{"sha": "0123456789012345678901234567890123456789",
        "siblings": [{"rfilename": "../../x.gguf"}, {"rfilename": "/x.gguf"}, {"rfilename": "a//x.gguf"}]}"#;
    bench.hub.spoil("api/models", 1, Fault::Says(body));
    let said = bench.refused("org/tiny");
    assert!(said.contains("nor a .gguf file"), "{said}");
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let bench = Bench::new();
    bench.hub.gate(REPOSITORY, "hf_right");
    let pull = |token| bench.pull_with("org/tiny", &[("HF_TOKEN", token)], &mut |_| {});
    let said = bench.refused("org/tiny");
    assert!(said.contains("accept its terms at http://127") && said.contains("HF_TOKEN"), "{said}");
    let said = pull("hf_wrong").unwrap_err().to_string();
    assert!(said.contains("Access is restricted") && !said.contains("hf_wrong"), "{said}");
    bench.hub.asked();

    pull("hf_right").unwrap();
    let asked = bench.hub.asked();
    assert!(asked.iter().any(|asked| asked.host == Host::Store));
    for asked in asked {
        let expected = (asked.host == Host::Hub).then_some("Bearer hf_right");
        assert_eq!(asked.authorization.as_deref(), expected, "{asked:?}");
    }
}

#[test]
fn no_token_goes_unencrypted_over_the_network() {
    let bench = Bench::new();
    let name = Name::parse("org/tiny").unwrap();
    let ask = |variables: &[(&str, &str)]| {
        let there = [("HF_ENDPOINT", "http://hub.invalid"), ("HF_TOKEN", "hf_secret")];
        let settings = bench.settings(&[variables, &there].concat());
        Hub::new(&settings, &name).map(|_| ())
    };
    let said = ask(&[]).unwrap_err().to_string();
    assert!(said.contains("unencrypted") && said.contains("HF_ENDPOINT"), "{said}");
    ask(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap();
    ask(&[("HF_ENDPOINT", "https://hub.invalid")]).unwrap();
}

#[test]
fn nothing_for_this_machine_goes_through_a_proxy() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let mut bench = Bench::new();
    bench.proxy =
        Some(ureq::Proxy::new(&format!("http://{}", proxy.local_addr().unwrap())).unwrap());
    bench.hub.gate(REPOSITORY, "hf_right");
    bench.pull_with("org/tiny", &[("HF_TOKEN", "hf_right")], &mut |_| {}).unwrap();
    let asked = proxy.accept().map(|_| ()).unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
    // What goes elsewhere does: that is how the settings are seen to count.
    let settings = bench.settings(&[("HF_ENDPOINT", "http://hub.invalid")]);
    let patience = Duration::from_millis(50);
    let web = Web::with(&settings, patience, bench.proxy.clone()).unwrap();
    let name = Name::parse("org/tiny").unwrap();
    let hub = Hub::with(&settings, &name, web, patience).asked_once();
    hub.listing(&mut |_| {}).err().expect("the proxy does not answer");
    proxy.accept().expect("it was asked");
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let bench = Bench::new();
    let said = bench.refused("org/tyni");
    assert!(
        said.contains("org/tyni")
            && said.contains("check the name")
            && said.contains("set HF_TOKEN"),
        "{said}"
    );
    let error = bench.pull_with("org/tyni", &[("HF_TOKEN", "t")], &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("may not read it"), "{error}");
    let said = bench.refused("org/tiny@v2");
    assert!(said.contains("no branch, tag or commit `v2`"), "{said}");
    let said = bench.refused("org/tiny:other.gguf");
    assert!(said.contains("no such file, but tiny.gguf"), "{said}");
    bench.hub.add(REPOSITORY, "second.gguf", Storage::Lfs, b"2");
    let said = bench.refused("org/tiny");
    assert!(said.contains("second.gguf, tiny.gguf"), "{said}");
}

#[test]
fn a_hub_that_leads_to_another_host_is_not_followed_but_named() {
    let bench = Bench::new();
    let moved = Fault::Status(308, "location", "https://hub.elsewhere:8443/api/models/x?y=z");
    bench.hub.spoil("api/models", 1, moved);
    let said = bench.refused("org/tiny");
    assert!(said.contains("set HF_ENDPOINT to https://hub.elsewhere:8443,"), "{said}");
    assert!(!said.contains("y=z") && !said.contains("JSON"), "{said}");
}
