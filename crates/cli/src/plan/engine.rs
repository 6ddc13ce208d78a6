//! Which device and which settings are planned for.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, Parser};
use engine::budget::{Demand, Memory};
use plan::dtype::KvDtype;
use plan::hardware::{Hardware, HardwareKind};
use plan::memory::{EngineSizes, Estimate};

use super::model::Model;
use crate::buffers::Connections;
use crate::errors;
use crate::launch::{EngineArgs, Requirements};
use crate::machine::{self, MachineMemory};
use crate::sizes::parse_bytes;

/// The device and settings of an engine; names and meaning are those of `serve`.
#[derive(Args)]
#[command(next_help_heading = "Device and engine")]
pub(super) struct EngineOptions {
    /// The device: a name of the table (see --list-devices), or a file ending in .json that
    /// `millrace roofline` wrote [default: this machine].
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Share of memory that may be used, above 0 and at most 1 [default: 0.5 where Millrace serves,
    /// as `serve` has it, else 0.92, as vLLM has it].
    #[arg(
        long,
        alias = "gpu-memory-utilization",
        conflicts_with = "kv_cache_memory_bytes",
        value_name = "SHARE"
    )]
    memory_utilization: Option<f64>,

    /// Bytes of the KV cache (also 512MiB, 2GiB), instead of a share of memory.
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    kv_cache_memory_bytes: Option<u64>,

    /// Most tokens of prompt and answer together [default: the model's, or what fits].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24), value_name = "TOKENS")]
    pub(super) max_model_len: Option<u32>,

    /// Most sequences that run at once [default: 50 where Millrace serves, else 256].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 16), value_name = "N")]
    max_num_seqs: Option<u32>,

    /// Most tokens computed in one step [default: 256 where Millrace serves, else 2048].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 20), value_name = "TOKENS")]
    max_num_batched_tokens: Option<u32>,

    /// Tokens per block of the KV cache [default: 32 where Millrace serves, else 16].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "TOKENS")]
    block_size: Option<u32>,

    /// How keys and values are stored: bf16, f16, int8; elsewhere than in Millrace fp8 and f32 too
    /// [default: bf16].
    #[arg(long, value_name = "TYPE")]
    kv_cache_dtype: Option<String>,

    /// Most requests that wait, where Millrace serves [default: 4 x --max-num-seqs].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=65536), value_name = "N")]
    max_num_queued_reqs: Option<u32>,

    /// Threads that compute, where Millrace serves [default: all cores of this machine].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    threads: Option<u16>,
}

/// A device, as far as plans need it.
pub(super) struct Device {
    /// What it is called.
    pub(super) name: String,
    /// What sort it is.
    pub(super) kind: HardwareKind,
    /// Its memory, and what of it is free.
    pub(super) memory: MachineMemory,
    /// Its rates; none of this machine, which was not measured.
    pub(super) hardware: Option<Hardware>,
}

/// What is asked of memory, and by whom.
pub(super) struct Engine {
    /// What is asked for.
    pub(super) demand: Demand,
    /// What there is.
    pub(super) memory: Memory,
    /// Most sequences that run at once.
    pub(super) max_num_seqs: u32,
    /// Whether the length was given.
    pub(super) is_len_given: bool,
    /// How the demand was found.
    pub(super) origin: Origin,
}

/// How a demand was found.
pub(super) enum Origin {
    /// As `serve` computes it.
    Serve(Box<Requirements>),
    /// As vLLM would find it, about.
    Estimate(Estimate, EngineSizes),
}

/// The settings of the seed report: device, utilisation, sizes. Its step is vLLM's default.
pub(super) const SEED_DEVICE: &str = "rtx-4090";
const SEED_UTILIZATION: f64 = 0.5;
const SEED_MAX_NUM_SEQS: u32 = 50;

/// vLLM's defaults: of version 0.32 the share, and of its API server on a card of less than 70 GiB
/// the numbers.
const UTILIZATION: f64 = 0.92;
const MAX_NUM_SEQS: u32 = 256;
const MAX_NUM_BATCHED_TOKENS: u32 = 2048;
const BLOCK_SIZE: u32 = 16;

/// The options of `serve`, as it reads them.
#[derive(Parser)]
struct ServeLine {
    #[command(flatten)]
    engine: EngineArgs,
}

impl EngineOptions {
    /// The device that is planned for.
    pub(super) fn device(&self, preset: bool) -> Result<Device> {
        let name = self.device.as_deref().or(preset.then_some(SEED_DEVICE));
        let Some(name) = name else {
            let memory = machine::memory()?;
            let name = machine::description(memory);
            return Ok(Device { name, kind: HardwareKind::Cpu, memory, hardware: None });
        };
        let hardware = if name.contains('/') || name.ends_with(".json") {
            let text = fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
            Hardware::from_json(&text).with_context(|| format!("--device {name}"))?
        } else {
            Hardware::named(name).context("--device")?
        };
        let bytes = hardware.memory_bytes;
        let memory = MachineMemory { total_bytes: bytes, available_bytes: bytes };
        let (name, kind) = (hardware.name.clone(), hardware.kind);
        Ok(Device { name, kind, memory, hardware: Some(hardware) })
    }

    /// What the model asks of the device: as `serve` would where it could, else estimated.
    pub(super) fn engine(&self, model: &Model, device: &Device, preset: bool) -> Result<Engine> {
        match &model.ours {
            Some(_) if device.kind == HardwareKind::Cpu => self.serve(model, device),
            _ => self.estimate(model, device, preset),
        }
    }

    fn serve(&self, model: &Model, device: &Device) -> Result<Engine> {
        let (name, file) = model.ours.as_ref().expect("the caller looked");
        let args = self.serve_args(name)?;
        args.check()?;
        let requirements = Requirements::new(&args, file, device.memory, Connections::USUAL)?;
        Ok(Engine {
            demand: requirements.demand,
            memory: requirements.memory,
            max_num_seqs: args.max_num_seqs(),
            is_len_given: self.max_model_len.is_some(),
            origin: Origin::Serve(Box::new(requirements)),
        })
    }

    /// The options that were given, as `serve` understands them, with its defaults and bounds.
    fn serve_args(&self, model: &str) -> Result<EngineArgs> {
        let text = |value: Option<u32>| value.map(|value| value.to_string());
        let given = [
            ("--memory-utilization", self.memory_utilization.map(|share| share.to_string())),
            ("--kv-cache-memory-bytes", self.kv_cache_memory_bytes.map(|bytes| bytes.to_string())),
            ("--max-model-len", text(self.max_model_len)),
            ("--max-num-seqs", text(self.max_num_seqs)),
            ("--max-num-batched-tokens", text(self.max_num_batched_tokens)),
            ("--block-size", text(self.block_size)),
            ("--kv-cache-dtype", self.kv_cache_dtype.clone()),
            ("--max-num-queued-reqs", text(self.max_num_queued_reqs)),
            ("--threads", text(self.threads.map(u32::from))),
        ];
        let mut line: Vec<OsString> = vec!["serve".into(), format!("--model={model}").into()];
        for (option, value) in given {
            line.extend(value.map(|value| OsString::from(format!("{option}={value}"))));
        }
        let parsed = ServeLine::try_parse_from(line);
        parsed.map(|line| line.engine).map_err(|error| anyhow!(errors::usage_line(&error)))
    }

    fn estimate(&self, model: &Model, device: &Device, preset: bool) -> Result<Engine> {
        let ours_only = [
            ("--threads", self.threads.is_some()),
            ("--max-num-queued-reqs", self.max_num_queued_reqs.is_some()),
        ];
        if let Some((option, _)) = ours_only.into_iter().find(|&(_, given)| given) {
            bail!("{option} counts only where Millrace serves: a .gguf model on a processor");
        }
        let context = model.context;
        let max_model_len = self.max_model_len.unwrap_or(context);
        ensure!(
            max_model_len <= context,
            "--max-model-len is {max_model_len}, more than the model's context of {context} tokens"
        );
        let kv_dtype = self.kv_cache_dtype.as_deref().unwrap_or("bf16");
        let kv_dtype: KvDtype =
            kv_dtype.parse().map_err(|error| anyhow!("--kv-cache-dtype: {error}"))?;
        let max_num_seqs = if preset { SEED_MAX_NUM_SEQS } else { MAX_NUM_SEQS };
        let sizes = EngineSizes {
            max_model_len,
            max_num_seqs: self.max_num_seqs.unwrap_or(max_num_seqs),
            max_num_batched_tokens: self.max_num_batched_tokens.unwrap_or(MAX_NUM_BATCHED_TOKENS),
            block_size: self.block_size.unwrap_or(BLOCK_SIZE),
            kv_dtype,
        };
        let utilization = if preset { SEED_UTILIZATION } else { UTILIZATION };
        let estimate = Estimate::new(&model.shape, &sizes);
        Ok(Engine {
            demand: estimate.demand(&sizes),
            memory: Memory {
                total_bytes: device.memory.total_bytes,
                available_bytes: device.memory.available_bytes,
                utilization: self.memory_utilization.unwrap_or(utilization),
                kv_cache_bytes: self.kv_cache_memory_bytes,
            },
            max_num_seqs: sizes.max_num_seqs,
            is_len_given: self.max_model_len.is_some(),
            origin: Origin::Estimate(estimate, sizes),
        })
    }
}
