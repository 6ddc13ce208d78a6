use std::io::Cursor;

use super::*;

/// A file of this header, with so many bytes of data behind it.
fn file(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data_bytes).map(|byte| byte as u8));
    bytes
}

fn parse(bytes: &[u8]) -> Result<Safetensors<Cursor<&[u8]>>, LoadError> {
    Safetensors::parse(Cursor::new(bytes))
}

fn refused(header: &str, data_bytes: usize) -> String {
    let error = parse(&file(header, data_bytes)).err();
    error.unwrap_or_else(|| panic!("{header} is accepted")).to_string()
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
    "b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},
    "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
    "s":{"dtype":"F8_E4M3","shape":[],"data_offsets":[12,13]}}   "#;

#[test]
fn tensors_are_read_where_the_header_says() {
    let bytes = file(GOOD, 13);
    let mut found = parse(&bytes).unwrap();
    assert_eq!(found.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b", "s"]);
    let b = found.tensor("b").unwrap();
    assert_eq!((b.dtype, b.shape.0.as_slice()), (Dtype::Bf16, &[2, 2][..]));
    let mut data = vec![99];
    found.append_tensor("b", &mut data).unwrap();
    found.append_tensor("s", &mut data).unwrap();
    assert_eq!(data, [99, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn a_file_is_refused_at_every_other_length() {
    let bytes = file(GOOD, 13);
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "cut to {length} of {}", bytes.len());
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = parse(&longer).err().unwrap().to_string();
    assert!(error.contains("14 bytes of data") && error.contains("first 13"), "{error}");
}

#[test]
fn headers_that_lie_are_refused_with_the_value() {
    let one = |entry: &str| format!(r#"{{"x":{{{entry}}}}}"#);
    let cases: [(String, &[&str]); 13] = [
        (one(r#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#), &["`x`", "8 bytes", "0 to 4"]),
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[4,0]"#), &["`x`", "from 4 to 0"]),
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[4,8]"#), &["`x`", "at 4", "ends at 0"]),
        (one(r#""dtype":"F32","shape":[3],"data_offsets":[0,12]"#), &["`x`", "beyond the end"]),
        (one(r#""dtype":"F32","shape":[9,0],"data_offsets":[0,0]"#), &["[9, 0]", "dimension of 0"]),
        (one(r#""dtype":"F4","shape":[1],"data_offsets":[0,1]"#), &["`x`", "part of one"]),
        (one(r#""dtype":"F31","shape":[1],"data_offsets":[0,4]"#), &["`x`", "`F31`"]),
        (one(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#), &["-1", "the header"]),
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"y":1"#), &["`y`", "dtype"]),
        (
            one(r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]"#),
            &["`x`", "more bytes than a file"],
        ),
        (
            one(r#""dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]"#),
            &["`x`", "more than 8 dimensions"],
        ),
        ("[]".to_string(), &["the header", "an object of tensors"]),
        (
            r#"{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_string(),
            &["a name of 0 bytes"],
        ),
    ];
    for (header, parts) in cases {
        let error = refused(&header, 4);
        assert!(parts.iter().all(|part| error.contains(part)), "{header}: {error}");
    }
}

#[test]
fn tensors_that_share_bytes_or_a_name_are_refused() {
    let x = r#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#;
    let error = refused(&format!(r#"{{"x":{{{x}}},"y":{{{x}}}}}"#), 4);
    assert!(error.contains("`y`") && error.contains("ends at 4"), "{error}");
    let error = refused(&format!(r#"{{"x":{{{x}}},"x":{{{x}}}}}"#), 4);
    assert!(error.contains("`x` occurs twice"), "{error}");
}

#[test]
fn lengths_of_headers_are_bounded_before_memory_is_taken() {
    for length in [HEADER_BYTES_MAX + 1, u64::MAX] {
        let error = parse(&length.to_le_bytes()).err().unwrap().to_string();
        assert!(error.contains(&length.to_string()), "{error}");
    }
    let error = parse(&1000_u64.to_le_bytes()).err().unwrap().to_string();
    assert!(error.contains("needs 1000 bytes, but only 0"), "{error}");
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(refused(&deep, 0).contains("the header"));
}

#[test]
fn spoiled_headers_never_panic() {
    let whole = file(GOOD, 13);
    let header = whole.len() - 13;
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=next(3) {
            let at = next(header);
            bytes[at] = if next(2) == 0 { bytes[at] ^ (1 << next(8)) } else { next(128) as u8 };
        }
        if let Ok(mut found) = parse(&bytes) {
            accepted += 1;
            let names: Vec<String> = found.tensors().map(|(name, _)| name.to_string()).collect();
            let mut data = Vec::new();
            names.iter().for_each(|name| found.append_tensor(name, &mut data).unwrap());
            assert_eq!(data.len(), 13);
        }
    }
    assert!((100..10_000).contains(&accepted), "{accepted} of 20000 spoiled files are accepted");
}
