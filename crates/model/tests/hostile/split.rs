//! Models in several files: read as the whole is, and refused where parts do not belong together.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use model::dummy::DummyShape;
use model::file::ModelFile;
use model::gguf::{Outline, TensorInfo, tensor_kind_id};

use crate::pieces::{number, text};

/// The metadata of a tiny model as stored, how many entries that are, and its tensors with their bytes.
struct Whole {
    metadata: Vec<u8>,
    entries: u64,
    tensors: Vec<(TensorInfo, Vec<u8>)>,
}

/// What a part says of the whole: `split.no`, `split.count` and `split.tensors.count`.
type Said = [u32; 3];

impl Whole {
    fn tiny() -> Self {
        let bytes = DummyShape::tiny().gguf(0);
        let mut file = ModelFile::from_bytes(bytes.clone()).unwrap();
        let infos = file.tensors().to_vec();
        // The list of tensors stands behind the metadata.
        let first = text(infos[0].name.as_bytes());
        let end = bytes.windows(first.len()).position(|found| found == first).unwrap();
        let read = |info: TensorInfo| {
            let mut data = Vec::new();
            file.read_tensor(&info.name, &mut data).unwrap();
            (info, data)
        };
        Self {
            metadata: bytes[24..end].to_vec(),
            entries: u64::from_le_bytes(bytes[16..24].try_into().unwrap()),
            tensors: infos.into_iter().map(read).collect(),
        }
    }

    /// A part with these tensors, the first of them with all metadata.
    fn part(&self, said: Said, tensors: std::ops::Range<usize>) -> Vec<u8> {
        let tensors = &self.tensors[tensors];
        let (metadata, entries) = match said[0] {
            0 => (&self.metadata[..], self.entries),
            _ => (&[][..], 0),
        };
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend((tensors.len() as u64).to_le_bytes());
        file.extend((entries + 3).to_le_bytes());
        file.extend(metadata);
        for (key, value) in ["split.no", "split.count", "split.tensors.count"].into_iter().zip(said)
        {
            file.extend([text(key.as_bytes()), number(value)].concat());
        }
        let mut data = Vec::new();
        for (info, bytes) in tensors {
            file.extend(text(info.name.as_bytes()));
            file.extend((info.shape.0.len() as u32).to_le_bytes());
            file.extend(info.shape.0.iter().rev().flat_map(|n| n.to_le_bytes()));
            file.extend(tensor_kind_id(info.kind).to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }
}

/// Writes a model in three parts, changes something, and opens the first.
fn opened(change: impl FnOnce(&Whole, &Path)) -> Result<ModelFile, String> {
    let (whole, folder) = (Whole::tiny(), tempfile::tempdir().unwrap());
    let count = whole.tensors.len();
    for (number, tensors) in [0..1, 1..4, 4..count].into_iter().enumerate() {
        let part = whole.part([number as u32, 3, count as u32], tensors);
        fs::write(folder.path().join(format!("x-0000{}-of-00003.gguf", number + 1)), part).unwrap();
    }
    change(&whole, folder.path());
    let first = folder.path().join("x-00001-of-00003.gguf");
    let opened = ModelFile::open(&first).map_err(|error| error.to_string());
    assert_eq!(Outline::open(&first).is_ok(), opened.is_ok(), "{:?}", opened.err());
    opened
}

#[test]
fn a_model_in_parts_is_the_whole_one() {
    let mut file = opened(|_, _| {}).unwrap();
    assert!(file.description().contains("GGUF 3 in 3 files"), "{}", file.description());
    let whole = Whole::tiny();
    let infos: Vec<&TensorInfo> = whole.tensors.iter().map(|(info, _)| info).collect();
    assert_eq!(file.tensors().iter().collect::<Vec<_>>(), infos);
    let mut bytes = Vec::new();
    // In another order than that of the files.
    for (info, expected) in whole.tensors.iter().rev() {
        file.read_tensor(&info.name, &mut bytes).unwrap();
        assert!(bytes == *expected, "{}", info.name);
    }
}

#[test]
fn parts_may_be_named_in_capitals_and_in_bytes_that_are_no_text() {
    for (stem, ending) in [(&b"x"[..], "GGUF"), (b"\xff\xfex", "gguf"), (b"\xffx", "Gguf")] {
        let (whole, folder) = (Whole::tiny(), tempfile::tempdir().unwrap());
        let count = whole.tensors.len();
        let path = |number: usize| {
            let name = [stem, format!("-0000{number}-of-00002.{ending}").as_bytes()].concat();
            folder.path().join(OsStr::from_bytes(&name))
        };
        for (number, tensors) in [(0, 0..1), (1, 1..count)] {
            let part = whole.part([number as u32, 2, count as u32], tensors);
            fs::write(path(number + 1), part).unwrap();
        }
        let file = ModelFile::open(&path(1)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.tensors().len(), count);
        assert_eq!(Outline::open(&path(1)).unwrap().tensors.len(), count);
        let error = ModelFile::open(&path(2)).err().unwrap().to_string();
        assert!(error.contains(&format!("x-00001-of-00002.{ending}")), "{error}");
        fs::remove_file(path(2)).unwrap();
        let error = ModelFile::open(&path(1)).err().unwrap().to_string();
        assert!(error.contains(&format!("x-00002-of-00002.{ending}")), "{error}");
    }
}

#[test]
fn all_parts_have_no_more_tensors_than_one_file_may() {
    let (mut whole, folder) = (Whole::tiny(), tempfile::tempdir().unwrap());
    let small = whole.tensors.iter().find(|(info, _)| info.shape.0.len() == 1).unwrap();
    let (info, bytes) = small.clone();
    let named = |name| (TensorInfo { name, ..info.clone() }, bytes.clone());
    whole.tensors = (0..40_000).map(|number| named(format!("t{number}"))).collect();
    let path = |number: u32| folder.path().join(format!("x-0000{}-of-00002.gguf", number + 1));
    for number in 0..2 {
        fs::write(path(number), whole.part([number, 2, 80_000], 0..40_000)).unwrap();
    }
    let model = ModelFile::open(&path(0)).err().unwrap().to_string();
    let outline = Outline::open(&path(0)).err().unwrap().to_string();
    for error in [model, outline] {
        assert!(error.contains("all parts") && error.contains("80000"), "{error}");
        assert!(error.contains("65536") && error.contains("x-00002"), "{error}");
    }
}

#[test]
fn parts_that_were_joined_again_are_a_whole_file() {
    let whole = Whole::tiny();
    let count = whole.tensors.len();
    let bytes = whole.part([0, 0, count as u32], 0..count);
    assert_eq!(ModelFile::from_bytes(bytes).unwrap().tensors().len(), count);
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let refused = |change: &dyn Fn(&Whole, &Path), parts: &[&str]| {
        let error = opened(change).err().unwrap_or_else(|| panic!("{parts:?} is accepted"));
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    };
    let second = "x-00002-of-00003.gguf";
    refused(&|_, at| fs::remove_file(at.join(second)).unwrap(), &[second, "not beside the first"]);
    refused(&|_, at| fs::write(at.join(second), "no model").unwrap(), &[second, "GGUF"]);
    let with = |said: Said, tensors: std::ops::Range<usize>| {
        move |whole: &Whole, at: &Path| {
            fs::write(at.join(second), whole.part(said, tensors.clone())).unwrap();
        }
    };
    let count = Whole::tiny().tensors.len() as u32;
    refused(&with([1, 2, count], 1..4), &[second, "part 2 of 2", "part 2 of 3"]);
    refused(&with([2, 3, count], 1..4), &[second, "part 3 of 3", "part 2 of 3"]);
    refused(&with([1, 3, count + 1], 1..4), &[second, "split.tensors.count"]);
    refused(&with([1, 1, count], 1..4), &[second, "a file that is whole"]);
    refused(&with([3, 3, count], 1..4), &[second, "`split.no`: 3", "below 3"]);
    refused(&with([1, 3, count], 0..4), &[second, "twice"]);
    refused(&with([1, 3, count], 1..3), &["split.tensors.count"]);
}

#[test]
fn another_part_than_the_first_and_counts_without_end_are_refused() {
    let (whole, folder) = (Whole::tiny(), tempfile::tempdir().unwrap());
    let refusal = |name: &str, said: Said| {
        let path = folder.path().join(name);
        fs::write(&path, whole.part(said, 0..1)).unwrap();
        ModelFile::open(&path).err().unwrap().to_string()
    };
    let error = refusal("x-00002-of-00003.gguf", [1, 3, 9]);
    assert!(error.contains("part 2") && error.contains("x-00001-of-00003.gguf"), "{error}");
    let error = refusal("other.gguf", [0, 3, 9]);
    assert!(error.contains("NAME-00001-of-00003.gguf"), "{error}");
    let error = refusal("x-00001-of-65535.gguf", [0, 65_535, 9]);
    assert!(error.contains("65535") && error.contains("at most 512"), "{error}");
    let error = ModelFile::from_bytes(whole.part([0, 3, 9], 0..1)).err().unwrap().to_string();
    assert!(error.contains("part 1 of 3"), "{error}");
}
