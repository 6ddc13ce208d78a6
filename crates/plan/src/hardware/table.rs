//! The table of devices. `docs/devices.md` shows it and says how its figures are meant.

use super::{Flops, Hardware, HardwareKind};
use HardwareKind::{Cpu, Gpu};

/// A row of the table, in the units in which data sheets speak.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) kind: HardwareKind,
    /// GiB that a program sees.
    pub(super) memory_gib: f64,
    /// 10^9 bytes per second.
    pub(super) bandwidth_gb: f64,
    /// 10^12 operations per second, dense.
    pub(super) fp16: Option<f64>,
    pub(super) int8: Option<f64>,
    pub(super) fp32: Option<f64>,
    pub(super) source: &'static str,
}

impl Device {
    pub(super) fn hardware(&self) -> Hardware {
        let tera = |rate: Option<f64>| rate.map(|rate| rate * 1e12);
        Hardware {
            name: self.name.to_string(),
            kind: self.kind,
            memory_bytes: (self.memory_gib * f64::from(1 << 30)) as u64,
            bandwidth: self.bandwidth_gb * 1e9,
            flops: Flops { fp16: tera(self.fp16), int8: tera(self.int8), fp32: tera(self.fp32) },
            source: self.source.to_string(),
        }
    }
}

/// Memory and bandwidth, operations per second with fp16, int8 and fp32.
const fn device(
    (name, kind): (&'static str, HardwareKind),
    (memory_gib, bandwidth_gb): (f64, f64),
    [fp16, int8, fp32]: [f64; 3],
    source: &'static str,
) -> Device {
    let (fp16, int8, fp32) = (Some(fp16), Some(int8), Some(fp32));
    Device { name, kind, memory_gib, bandwidth_gb, fp16, int8, fp32, source }
}

/// A device whose maker says nothing of operations per second.
const fn unrated(name: &'static str, memory_gib: f64, bandwidth_gb: f64) -> Device {
    let (fp16, int8, fp32) = (None, None, None);
    Device { name, kind: Gpu, memory_gib, bandwidth_gb, fp16, int8, fp32, source: APPLE }
}

const APPLE: &str = "Apple, technical specifications of the Macs with it, largest memory";
const GA102: &str = "NVIDIA Ampere GA102 GPU Architecture, whitepaper";
const ADA: &str = "NVIDIA Ada GPU Architecture, whitepaper";
const BLACKWELL: &str = "NVIDIA RTX Blackwell GPU Architecture, whitepaper";
const T4: &str = "NVIDIA T4 Tensor Core GPU, datasheet";
const A10: &str = "NVIDIA A10 Tensor Core GPU, datasheet";
const A100: &str = "NVIDIA A100 Tensor Core GPU, datasheet";
const L4: &str = "NVIDIA L4 Tensor Core GPU, datasheet";
const L40S: &str = "NVIDIA L40S GPU, datasheet";
const H100: &str = "NVIDIA H100 Tensor Core GPU, datasheet";
const H200: &str = "NVIDIA H200 Tensor Core GPU, datasheet";
const B200: &str = "NVIDIA HGX B200, datasheet, one of eight";
const MI300X: &str = "AMD Instinct MI300X Accelerator, data sheet";
const XEON_8480: &str = "Intel, specifications: 56 cores at 2.0 GHz, AMX, 8 x DDR5-4800";
const XEON_6980P: &str = "Intel, specifications: 128 cores at 2.0 GHz, AMX, 12 x MRDIMM-8800";
const EPYC_9654: &str = "AMD, specifications: 96 cores at 2.4 GHz, 12 x DDR5-4800";
const EPYC_9755: &str = "AMD, specifications: 128 cores at 2.7 GHz, 12 x DDR5-6400";
const RYZEN_9950X: &str = "AMD, specifications: 16 cores at 4.3 GHz, 2 x DDR5-5600";

/// All devices, graphics cards and accelerators by age, then Apple's, then processors.
pub(super) const DEVICES: [Device; 25] = [
    device(("RTX 3090", Gpu), (23.58, 936.0), [71.0, 284.0, 35.6], GA102),
    device(("RTX 4090", Gpu), (23.52, 1008.0), [165.2, 660.6, 82.6], ADA),
    device(("RTX 5090", Gpu), (31.36, 1792.0), [209.5, 838.0, 104.8], BLACKWELL),
    device(("T4", Gpu), (14.57, 320.0), [65.0, 130.0, 8.1], T4),
    device(("A10", Gpu), (22.06, 600.0), [125.0, 250.0, 31.2], A10),
    device(("A100 40GB", Gpu), (39.39, 1555.0), [312.0, 624.0, 19.5], A100),
    device(("A100 80GB", Gpu), (79.15, 2039.0), [312.0, 624.0, 19.5], A100),
    device(("L4", Gpu), (22.03, 300.0), [121.0, 242.0, 30.3], L4),
    device(("L40S", Gpu), (44.31, 864.0), [362.0, 733.0, 91.6], L40S),
    device(("H100 PCIe", Gpu), (79.19, 2000.0), [756.0, 1513.0, 51.0], H100),
    device(("H100 SXM", Gpu), (79.19, 3350.0), [989.5, 1979.0, 67.0], H100),
    device(("H200", Gpu), (139.8, 4800.0), [989.5, 1979.0, 67.0], H200),
    device(("B200", Gpu), (178.4, 7700.0), [2250.0, 4500.0, 75.0], B200),
    device(("MI300X", Gpu), (191.7, 5300.0), [1307.4, 2614.9, 163.4], MI300X),
    unrated("M2 Ultra", 192.0, 800.0),
    unrated("M3 Max", 128.0, 400.0),
    unrated("M3 Ultra", 512.0, 819.0),
    unrated("M4", 32.0, 120.0),
    unrated("M4 Pro", 64.0, 273.0),
    unrated("M4 Max", 128.0, 546.0),
    device(("Xeon 8480+", Cpu), (512.0, 307.2), [114.7, 229.4, 7.2], XEON_8480),
    device(("Xeon 6980P", Cpu), (768.0, 844.8), [262.1, 524.3, 16.4], XEON_6980P),
    device(("EPYC 9654", Cpu), (768.0, 460.8), [14.7, 29.5, 7.4], EPYC_9654),
    device(("EPYC 9755", Cpu), (768.0, 614.4), [44.2, 88.5, 22.1], EPYC_9755),
    device(("Ryzen 9950X", Cpu), (64.0, 89.6), [8.8, 17.6, 4.4], RYZEN_9950X),
];
