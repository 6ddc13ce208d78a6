//! Devices: what they hold, how fast they read, how fast they multiply.

mod table;

use serde::{Deserialize, Serialize};

use crate::error::{PlanError, bad};

/// Bounds of a device's figures: what none falls short of, and none will have for a while.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;
const RATES: std::ops::RangeInclusive<f64> = 1e6..=1e18;

/// A device, as data: of the table, or from a file that `millrace roofline --json` wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// What it is called.
    pub name: String,
    /// What sort of device it is.
    pub kind: HardwareKind,
    /// Memory that a program sees, in bytes.
    pub memory_bytes: u64,
    /// Bytes read from memory per second.
    pub bandwidth: f64,
    /// Operations per second.
    pub flops: Flops,
    /// Where the figures come from.
    pub source: String,
}

/// Sorts of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HardwareKind {
    /// A graphics card or accelerator with memory of its own, or sharing the machine's.
    Gpu,
    /// A processor, or a machine as its programs see it.
    Cpu,
}

impl HardwareKind {
    /// The word for it in the lines that engines log: `GPU`.
    pub const fn word(self) -> &'static str {
        match self {
            HardwareKind::Gpu => "GPU",
            HardwareKind::Cpu => "CPU",
        }
    }
}

/// Operations per second by the type of what is multiplied; a multiply-add is two. Dense: nothing
/// is left out for being zero. None where nobody says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flops {
    /// 16-bit floats, half precision or bfloat16, summed in 32 bits.
    pub fp16: Option<f64>,
    /// 8-bit integers.
    pub int8: Option<f64>,
    /// 32-bit floats.
    pub fp32: Option<f64>,
}

impl Hardware {
    /// The device of the table with this name: case, spaces and underscores do not count.
    pub fn named(name: &str) -> Result<Hardware, PlanError> {
        let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '_'], "-");
        let wanted = plain(name);
        let found = table::DEVICES.iter().find(|device| plain(device.name) == wanted);
        found.map(table::Device::hardware).ok_or_else(|| PlanError::UnknownDevice {
            name: name.to_string(),
            known: table::DEVICES.map(|device| plain(device.name)).join(", "),
        })
    }

    /// The device that the text of a file describes.
    pub fn from_json(text: &str) -> Result<Hardware, PlanError> {
        let what = "the file of a device";
        let hardware: Hardware =
            serde_json::from_str(text).map_err(|cause| PlanError::Json { what, cause })?;
        if !MEMORY_BYTES.contains(&hardware.memory_bytes) {
            let limit = format!("{} to {} bytes", MEMORY_BYTES.start(), MEMORY_BYTES.end());
            return Err(bad("memory_bytes", hardware.memory_bytes, limit));
        }
        let Flops { fp16, int8, fp32 } = hardware.flops;
        let rates = [("fp16", fp16), ("int8", int8), ("fp32", fp32)];
        for (key, rate) in rates.into_iter().chain([("bandwidth", Some(hardware.bandwidth))]) {
            if let Some(rate) = rate.filter(|rate| !RATES.contains(rate)) {
                return Err(bad(key, rate, "1e6 to 1e18 per second"));
            }
        }
        Ok(hardware)
    }

    /// The device as the text of a file, which [`Hardware::from_json`] reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are always JSON") + "\n"
    }

    /// All devices of the table, in its order.
    pub fn all() -> Vec<Hardware> {
        table::DEVICES.iter().map(table::Device::hardware).collect()
    }
}

/// The table as Markdown: name, memory, bandwidth, operations per second, source.
pub fn table() -> String {
    let mut text = "\
| device | memory, GiB | bandwidth, GB/s | fp16, TFLOP/s | int8, TOP/s | fp32, TFLOP/s | source |
|---|---:|---:|---:|---:|---:|---|
"
    .to_string();
    for device in &table::DEVICES {
        let name = device.name.to_ascii_lowercase().replace(' ', "-");
        let rate = |rate: Option<f64>| rate.map_or("-".to_string(), |rate| rate.to_string());
        let rates = [device.fp16, device.int8, device.fp32].map(rate).join(" | ");
        let table::Device { memory_gib, bandwidth_gb, source, .. } = device;
        text += &format!("| {name} | {memory_gib} | {bandwidth_gb} | {rates} | {source} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_however_they_are_spelt() {
        for name in ["rtx-4090", "RTX 4090", "rtx_4090"] {
            assert_eq!(Hardware::named(name).unwrap().name, "RTX 4090");
        }
        let error = Hardware::named("rtx").expect_err("there are several").to_string();
        for part in ["`rtx`", "rtx-3090, rtx-4090", "roofline --json"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_are_unique_and_figures_are_possible() {
        let all = Hardware::all();
        assert!(20 <= all.len());
        for device in &all {
            let same = |other: &&Hardware| other.name == device.name;
            assert_eq!(all.iter().filter(same).count(), 1, "{}", device.name);
            // What a file may say holds for the table too.
            let read = Hardware::from_json(&device.to_json()).unwrap();
            assert_eq!(read, *device);
            let Flops { fp16, int8, fp32 } = device.flops;
            for (faster, slower) in [(int8, fp16), (fp16, fp32)] {
                let both = faster.zip(slower);
                assert!(both.is_none_or(|(faster, slower)| slower <= faster), "{}", device.name);
            }
        }
    }

    #[test]
    fn the_document_has_this_table() {
        let document = include_str!("../../../docs/devices.md");
        assert!(document.contains(&table()), "docs/devices.md needs this table:\n\n{}", table());
    }

    #[test]
    fn files_that_cannot_be_meant_are_refused_by_name() {
        let good = Hardware::named("l4").unwrap();
        let check = |device: &Hardware, parts: &[&str]| {
            let error = Hardware::from_json(&device.to_json()).expect_err("bad").to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        };
        check(&Hardware { memory_bytes: 0, ..good.clone() }, &["memory_bytes is 0", "1048576"]);
        check(&Hardware { bandwidth: -1.0, ..good.clone() }, &["bandwidth is -1", "1e6"]);
        let flops = Flops { fp16: Some(1e30), ..good.flops };
        check(&Hardware { flops, ..good.clone() }, &["fp16", "1e18"]);
        let unknown = good.to_json().replace("\"fp16\"", "\"fp15\"");
        let error = Hardware::from_json(&unknown).expect_err("no such type").to_string();
        assert!(error.contains("fp15") && error.contains("fp16"), "{error}");
    }
}
