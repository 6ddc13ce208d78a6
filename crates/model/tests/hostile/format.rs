//! The format itself: header, metadata, alignment, the list of tensors and where their data lies.
//!
//! The names in the table of format errors are those of llama.cpp's `test-gguf`, so that readers
//! can compare.

use model::file::ModelFile;
use model::gguf::ValueKind;

use crate::pieces::{Pieces, accepted, array, number, refusal, refused, text, value};

#[test]
fn a_header_that_lies_is_refused() {
    refused(
        "HEADER_BAD_MAGIC",
        "not a GGUF file: it starts with [67, 67, 6d, 6c] and not with the letters `GGUF`",
        |p| p.magic = *b"ggml",
    );
    for (case, version) in [("VERSION_0", 0), ("VERSION_1", 1), ("VERSION_FUTURE", 4)] {
        let message = format!("GGUF version {version} is not supported; versions 2 and 3 are");
        refused(case, &message, |p| p.version = version);
    }
    refused(
        "big-endian",
        "the GGUF file is big-endian; only little-endian files are supported",
        |p| p.version = 3_u32.swap_bytes(),
    );
    refused(
        "HEADER_N_TENSORS",
        "the number of tensors: 18446744073709551615 is too many, at most 65536 are accepted",
        |p| p.tensor_count = Some(u64::MAX),
    );
    refused(
        "HEADER_N_KV",
        "the number of metadata entries: 18446744073709551615 is too many, at most 65536 are \
         accepted",
        |p| p.entry_count = Some(u64::MAX),
    );
    refused("HEADER_EMPTY", "metadata key `tokenizer.ggml.model` is missing", |p| {
        (p.entries, p.tensors) = (Vec::new(), Vec::new());
    });
    let message = refusal(|p| p.entry_count = Some(65_536));
    assert!(message.starts_with("the number of metadata entries: needs 917504 bytes"), "{message}");
    let message = refusal(|p| p.tensor_count = Some(60_000));
    assert!(message.starts_with("the number of tensors: needs 1980000 bytes"), "{message}");
    // A count that fits the file but not its contents.
    assert!(!refusal(|p| p.entry_count = Some(19)).is_empty());
    assert!(!refusal(|p| p.entry_count = Some(17)).is_empty());
    assert!(!refusal(|p| p.tensor_count = Some(12)).is_empty());
    accepted("version 2", |p| p.version = 2);
}

#[test]
fn metadata_that_lies_is_refused() {
    let mut bytes = Pieces::valid().bytes();
    // The first key's length lies behind magic, version and the two counts.
    bytes[24..32].fill(0xff);
    assert_eq!(
        ModelFile::from_bytes(bytes).err().expect("KV_BAD_KEY_SIZE").to_string(),
        "metadata entry 1 of 18: bytes of the key: 18446744073709551615 is too many, at most \
         65535 are accepted"
    );
    refused("KV_EMPTY_KEY", "metadata entry 19 of 19: the key is empty", |p| {
        p.entries.push((vec![], number(1)));
    });
    refused("key is not text", "metadata entry 19 of 19: is not UTF-8 text", |p| {
        p.entries.push((vec![0xff], number(1)));
    });
    refused("KV_BAD_TYPE", "metadata key `x`: value type 13 does not exist (0 to 12 do)", |p| {
        p.set("x", 13_u32.to_le_bytes().to_vec())
    });
    refused(
        "array of a bad type",
        "metadata key `x`: value type 4294967295 does not exist (0 to 12 do)",
        |p| p.set("x", value(ValueKind::Array, &[0xff; 12])),
    );
    refused("array of arrays", "metadata key `x`: arrays of arrays are not supported", |p| {
        p.set("x", array(ValueKind::Array, 1, &[0; 12]));
    });
    refused("KV_DUPLICATE_KEY", "metadata key `x` occurs twice", |p| {
        p.entries.push((b"x".to_vec(), number(1)));
        p.entries.push((b"x".to_vec(), number(1)));
    });
    refused("boolean of 2", "metadata key `x`: 2 is not a boolean (0 or 1)", |p| {
        p.set("x", value(ValueKind::Bool, &[2]));
    });
    refused("value is not text", "metadata key `x`: is not UTF-8 text", |p| {
        p.set("x", value(ValueKind::Text, &text(&[0xc3])));
    });
    for len in [1 << 20, u64::MAX / 4, u64::MAX] {
        for kind in ValueKind::ALL.into_iter().filter(|&kind| kind != ValueKind::Array) {
            let message = refusal(|p| p.set("x", array(kind, len, &[])));
            assert!(message.starts_with("metadata key `x`: needs "), "{kind:?}: {message}");
        }
        let message = refusal(|p| p.set("x", value(ValueKind::Text, &len.to_le_bytes())));
        assert!(message.starts_with(&format!("metadata key `x`: needs {len} bytes")), "{message}");
    }
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for alignment in [0, 1, 4, 7, 33, 48, u32::MAX, 1 << 31] {
        let message = format!(
            "metadata key `general.alignment`: {alignment} is refused, expected a power of two \
             from 8 to 1073741824"
        );
        refused("KV_BAD_ALIGN", &message, |p| p.set("general.alignment", number(alignment)));
    }
    refused(
        "KV_WRONG_TYPE_ALIGN",
        "metadata key `general.alignment`: 32 is refused, expected a number of type u32",
        |p| p.set("general.alignment", value(ValueKind::U64, &32_u64.to_le_bytes())),
    );
    refused(
        "TENSORS_INCONSISTENT_ALIGN",
        "tensor `b`: data offset 64 is not a multiple of the alignment 128",
        |p| {
            p.set("general.alignment", number(128));
            p.tensors.clear();
            p.data = 0;
            p.alignment = 64;
            p.add("a", vec![1]);
            p.add("b", vec![1]);
        },
    );
    accepted("TENSORS_CUSTOM_ALIGN", |p| {
        p.set("general.alignment", number(8));
        p.alignment = 8;
        (p.data, p.tensors) = (0, Vec::new());
        let valid = Pieces::valid();
        for tensor in valid.tensors {
            let name = String::from_utf8(tensor.name).expect("names of the valid file");
            p.add(&name, tensor.dimensions);
        }
    });
}

#[test]
fn a_tensor_list_that_lies_is_refused() {
    const NAME: &str = "blk.0.attn_q.weight";
    let entry = "entry 3 of 11 in the tensor list";
    for len in [0, 65, u64::MAX] {
        let message = format!("{entry}: a name of {len} bytes, expected 1 to 64");
        refused("TENSORS_BAD_NAME_SIZE", &message, |p| p.tensor(NAME).name_len = Some(len));
    }
    refused("name is not text", &format!("{entry}: is not UTF-8 text"), |p| {
        p.tensor(NAME).name = vec![0xff, 0xfe];
    });
    for count in [0, 5, u32::MAX] {
        let message = format!("tensor `{NAME}`: {count} dimensions, expected 1 to 4");
        refused("TENSORS_N_DIMS", &message, |p| p.tensor(NAME).dimension_count = Some(count));
    }
    refused(
        "TENSORS_SHAPE",
        "tensor `blk.0.attn_q.weight`: shape [16, 64], expected [32, 32]",
        |p| p.tensor(NAME).dimensions = vec![64, 16],
    );
    for dimensions in [vec![0, 32], vec![32, 0]] {
        let message = refusal(|p| p.tensor(NAME).dimensions = dimensions);
        assert!(message.ends_with("has no elements"), "TENSORS_ZERO_DIM: {message}");
    }
    for (case, dimensions) in [
        ("TENSORS_NE_TOO_BIG", vec![u64::MAX, u64::MAX]),
        ("TENSORS_NE_TOO_BIG", vec![1 << 32, 1 << 32]),
        ("TENSORS_NBYTES_TOO_BIG", vec![1 << 62]),
        ("TENSORS_NBYTES_TOO_BIG", vec![u64::MAX / 4 + 2]),
        ("TENSORS_NBYTES_PAD_WRAP", vec![(u64::MAX - 3) / 4]),
    ] {
        let message = refusal(|p| p.tensor(NAME).dimensions = dimensions);
        assert!(message.ends_with("has more bytes than a file can"), "{case}: {message}");
    }
    refused("TENSORS_DUPLICATE_NAME", &format!("tensor `{NAME}` occurs twice"), |p| {
        let tensor = p.tensor(NAME).clone();
        p.tensors.push(tensor);
    });
    for (id, name) in [(16, "IQ2_XXS"), (24, "I8"), (34, "TQ1_0"), (77, "number 77")] {
        let message = format!(
            "tensor `{NAME}`: type {name} is not supported; \
             F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4 \
             are"
        );
        refused("TENSORS_BAD_TYPE", &message, |p| p.tensor(NAME).kind = id);
    }
    refused(
        "rows of broken blocks",
        "tensor `output_norm.weight`: shape [33] has rows that are not a multiple of 32, a block \
         of Q4_1",
        |p| {
            let tensor = p.tensor("output_norm.weight");
            (tensor.kind, tensor.dimensions) = (3, vec![33]);
        },
    );
    for (id, name) in
        [(10, "Q2_K"), (11, "Q3_K"), (12, "Q4_K"), (13, "Q5_K"), (14, "Q6_K"), (23, "IQ4_XS")]
    {
        let message = format!(
            "tensor `output_norm.weight`: shape [288] has rows that are not a multiple of 256, a \
             block of {name}"
        );
        refused("rows of broken super-blocks", &message, |p| {
            let tensor = p.tensor("output_norm.weight");
            (tensor.kind, tensor.dimensions) = (id, vec![288]);
        });
        let message = refusal(|p| {
            let tensor = p.tensor("output_norm.weight");
            (tensor.kind, tensor.dimensions) = (id, vec![1 << 63, 1 << 40]);
        });
        assert!(message.ends_with("has more bytes than a file can"), "{name}: {message}");
    }
}

#[test]
fn tensor_data_outside_the_file_or_shared_is_refused() {
    const NAME: &str = "output_norm.weight";
    let data_bytes = Pieces::valid().data as u64;
    refused(
        "TENSORS_BAD_OFFSET",
        &format!("tensor `{NAME}`: data offset 7 is not a multiple of the alignment 32"),
        |p| p.tensor(NAME).offset = 7,
    );
    for offset in [data_bytes, 1 << 62, u64::MAX - 31, u64::MAX - 127] {
        let message = format!(
            "tensor `{NAME}`: 128 bytes at data offset {offset} reach beyond the end of the file \
             ({data_bytes} bytes of data); is the file complete?"
        );
        refused("DATA_MEM_SIZE_OVERFLOW", &message, |p| p.tensor(NAME).offset = offset);
    }
    let message = refusal(|p| p.data -= 1);
    assert!(message.contains("is the file complete?"), "DATA_NOT_ENOUGH: {message}");
    refused(
        "shared bytes",
        "tensors `blk.0.attn_q.weight` and `blk.0.ffn_up.weight` overlap in the file",
        |p| {
            let offset = p.tensor("blk.0.attn_q.weight").offset;
            p.tensor("blk.0.ffn_up.weight").offset = offset + 64;
        },
    );
}
