//! A running engine from the options of the command line.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use engine::budget::{Budget, BudgetError, Demand, Memory, feasible_model_len};
use engine::{
    Engine, EngineConfig, Handle, KvGroups, Report, SchedulingPolicy, SystemClock, Worker,
};
use grammar::Guided;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::{KvType, TILE_TOKENS};
use model::cpu::CpuDevice;
use model::file::ModelFile;
use model::quantization::Quantization;
use model::transformer::{Transformer, TransformerSizes};
use model::weights::Weights;
use sampling::{SamplingParams, SamplingRequest};
use server::ServerInfo;
use text::{ChatTemplate, Tokenizer};

use crate::adapters::{self, Adapters, NamedAdapter};
use crate::buffers::{Connections, buffer_bytes};
use crate::machine::{self, MachineMemory};
use crate::sizes::parse_bytes;
use crate::source::Source;
use crate::speculation::{DRAFT_MAX, DraftFile, Speculating};

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// Sequences that run at once unless the command line says otherwise: the seed report's cap.
const MAX_NUM_SEQS: u32 = 50;

/// Which model, and how much of the machine it may use.
#[derive(Args, Debug, Clone)]
pub struct EngineArgs {
    /// The model: a name of the catalogue (smollm2-135m), hf:ORG/NAME of the Hugging Face hub (as
    /// hf:ORG/NAME@REVISION:FILE.gguf where another revision or one file is meant), a .gguf file (of a split
    /// one the first part), a folder of safetensors, or dummy:smollm2-135m (random weights, no download).
    #[arg(long, default_value = "smollm2-135m", value_name = "MODEL")]
    pub model: String,

    /// A LoRA adapter of the model, which requests choose by putting its name into "model": NAME=PATH,
    /// where PATH is a folder with adapter_config.json and adapter_model.safetensors, or a GGUF file. May be
    /// given several times.
    #[arg(long, value_name = "NAME=PATH")]
    pub lora: Vec<NamedAdapter>,

    /// Share of memory that weights, adapters, activations, KV cache and buffers may use together, above 0
    /// and at most 1. Memory is the least of the machine's and every cgroup limit.
    #[arg(
        long,
        alias = "gpu-memory-utilization",
        default_value_t = 0.5,
        conflicts_with = "kv_cache_memory_bytes",
        value_name = "SHARE"
    )]
    pub memory_utilization: f64,

    /// Bytes of the KV cache (also 512MiB, 2GiB), instead of a share of memory.
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    pub kv_cache_memory_bytes: Option<u64>,

    /// Most tokens of prompt and answer together [default: the model's, or what fits].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "TOKENS")]
    pub max_model_len: Option<u32>,

    /// Most sequences that run at once [default: 50].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "N")]
    pub max_num_seqs: Option<u32>,

    /// Most tokens computed in one step, at least --max-num-seqs. More makes long prompts start
    /// sooner and running answers wait longer for them.
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=16384),
        value_name = "TOKENS"
    )]
    pub max_num_batched_tokens: u32,

    /// Tokens per block of the KV cache, a multiple of 32.
    #[arg(
        long,
        default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(32..=1024),
        value_name = "TOKENS"
    )]
    pub block_size: u32,

    /// How keys and values are stored: bf16, f16 (as large, a little closer to float32, slower) or
    /// int8 (little more than half as large and faster over long contexts, a little less close).
    #[arg(long, default_value_t = KvType::Bf16, value_name = "TYPE")]
    pub kv_cache_dtype: KvType,

    /// What weights that the model has as floats (F32, F16, BF16) are packed as when they are loaded:
    /// q8_0, q4_1 or q4_k. Embedding and head become q8_0; what is quantised stays as it is.
    #[arg(long, value_name = "TYPE")]
    pub quantization: Option<Quantization>,

    /// Keep computed blocks for later requests with the same beginning.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub enable_prefix_caching: bool,

    /// Most requests that wait; further ones get 429 [default: 4 x --max-num-seqs].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=65536), value_name = "N")]
    pub max_num_queued_reqs: Option<u32>,

    /// Who goes first when not everybody can: fcfs (first come, first served), priority (requests
    /// with a lower `priority` first) or fair (each client gets its share: the owner of its key where there are
    /// keys of several owners, else its `user`).
    #[arg(long, default_value_t = SchedulingPolicy::Fcfs, value_name = "POLICY")]
    pub scheduling_policy: SchedulingPolicy,

    /// Guess up to N next tokens where the last ones occurred before, in prompt or answer, and verify
    /// them in one step. Answers stay the same, token for token. It helps a few users whose answers
    /// repeat what is there (code that is edited, quotes, tables); other text neither gains nor loses much.
    /// Steps of 8 positions and more, as of 8 users, guess nothing.
    #[arg(
        long,
        value_parser = clap::value_parser!(u32).range(1..=DRAFT_MAX),
        conflicts_with = "speculative_model",
        value_name = "N"
    )]
    pub speculative_ngram: Option<u32>,

    /// Have this smaller model guess next tokens, which the model verifies in one step. It must have the
    /// same vocabulary. Answers stay the same, token for token. It helps a few users if it is many times
    /// smaller and mostly right. Its weights, activations and keys and values count in the memory.
    #[arg(long, value_name = "MODEL")]
    pub speculative_model: Option<String>,

    /// Most tokens that --speculative-model guesses for a step.
    #[arg(
        long,
        default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=DRAFT_MAX),
        requires = "speculative_model",
        value_name = "N"
    )]
    pub num_speculative_tokens: u32,

    /// Threads that compute [default: all cores].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    pub threads: Option<u16>,

    /// Instructions to use: avx512, avx2 or scalar [default: the best this machine has].
    #[arg(long, value_name = "TIER")]
    pub isa: Option<Isa>,
}

impl EngineArgs {
    /// The same options as arguments for another `millrace`.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut push = |name: &str, value: String| arguments.extend([name.into(), value.into()]);
        push("--model", self.model.clone());
        match self.kv_cache_memory_bytes {
            Some(bytes) => push("--kv-cache-memory-bytes", bytes.to_string()),
            None => push("--memory-utilization", self.memory_utilization.to_string()),
        }
        push("--max-num-batched-tokens", self.max_num_batched_tokens.to_string());
        push("--block-size", self.block_size.to_string());
        push("--kv-cache-dtype", self.kv_cache_dtype.to_string());
        push("--enable-prefix-caching", self.enable_prefix_caching.to_string());
        push("--scheduling-policy", self.scheduling_policy.to_string());
        let of_model = self.speculative_model.as_ref().map(|_| self.num_speculative_tokens);
        let optional = [
            ("--max-num-seqs", self.max_num_seqs.map(|n| n.to_string())),
            ("--max-model-len", self.max_model_len.map(|n| n.to_string())),
            ("--max-num-queued-reqs", self.max_num_queued_reqs.map(|n| n.to_string())),
            ("--threads", self.threads.map(|n| n.to_string())),
            ("--quantization", self.quantization.map(|quantization| quantization.to_string())),
            ("--isa", self.isa.map(|isa| isa.to_string())),
            ("--speculative-ngram", self.speculative_ngram.map(|n| n.to_string())),
            ("--speculative-model", self.speculative_model.clone()),
            ("--num-speculative-tokens", of_model.map(|n| n.to_string())),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                push(name, value);
            }
        }
        arguments.extend(adapters::to_arguments(&self.lora));
        arguments
    }

    /// Most sequences that run at once.
    pub fn max_num_seqs(&self) -> u32 {
        self.max_num_seqs.unwrap_or(MAX_NUM_SEQS)
    }

    /// Most requests that wait.
    fn queued(&self) -> u32 {
        self.max_num_queued_reqs.unwrap_or(4 * self.max_num_seqs())
    }

    /// What guesses next tokens.
    pub fn speculating(&self) -> Speculating<'_> {
        match (&self.speculative_model, self.speculative_ngram) {
            (Some(name), _) => Speculating::Model { name, tokens: self.num_speculative_tokens },
            (None, Some(tokens)) => Speculating::Lookup { tokens },
            (None, None) => Speculating::Nothing,
        }
    }

    /// The groups of the layers of the model in `file` for sequences of so many tokens. A draft model, which
    /// keeps its keys and values under the same blocks, needs all of them.
    fn kv_groups(&self, file: &ModelFile, len_max: usize) -> KvGroups {
        match self.speculating() {
            Speculating::Model { .. } => KvGroups::ONE,
            Speculating::Lookup { .. } | Speculating::Nothing => file.config.kv_groups(len_max),
        }
    }

    fn threads(&self) -> usize {
        self.threads.map_or_else(machine::cores, usize::from)
    }

    /// Refuses options that do not go with each other or with this machine.
    pub fn check(&self) -> Result<()> {
        let tile = TILE_TOKENS as u32;
        ensure!(
            self.block_size.is_multiple_of(tile),
            "--block-size is {}; give a multiple of {tile}",
            self.block_size
        );
        ensure!(
            self.max_num_batched_tokens >= self.max_num_seqs(),
            "--max-num-batched-tokens is {}, less than --max-num-seqs {}: running sequences could \
             not all advance in a step; raise it or lower --max-num-seqs",
            self.max_num_batched_tokens,
            self.max_num_seqs()
        );
        let isa = self.isa.unwrap_or_else(Isa::detect);
        ensure!(isa.available(), "--isa {isa}: this machine lacks these instructions");
        Ok(())
    }
}

/// What a model and its options come to before any weight is read.
struct Plan {
    budget: Budget,
    sizes: TransformerSizes,
    config: EngineConfig,
    info: ServerInfo,
}

/// A running engine, and what a front needs beside it.
pub struct Launched {
    /// Takes requests.
    pub handle: Handle<Guided<SamplingParams>>,
    /// The owner thread.
    pub worker: Worker,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template, if it has one.
    pub template: Option<ChatTemplate>,
    /// What is served.
    pub info: ServerInfo,
    /// How the model's makers choose tokens where a request says nothing.
    pub sampling: SamplingRequest,
}

/// A model whose weights are not read yet.
pub struct Opened {
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    source: Source,
    file: ModelFile,
}

/// Opens the model, which is fetched if it is not there. Refuses options that do not go together.
pub fn open(args: &EngineArgs) -> Result<Opened> {
    args.check()?;
    let source = Source::parse(&args.model)?;
    let mut file = source.open()?;
    file.quantization = args.quantization;
    let tokenizer = Arc::new(Tokenizer::new(file.tokenizer.clone()).context("tokenizer")?);
    Ok(Opened { tokenizer, source, file })
}

/// Loads the model that was opened with these options, divides the memory and starts the engine, which
/// reports to `sink`.
pub fn launch(
    args: &EngineArgs,
    opened: Opened,
    served_name: Option<&str>,
    connections: Connections,
    sink: impl FnMut(Report<model::cpu::Extra>) + Send + 'static,
) -> Result<Launched> {
    let Opened { tokenizer, source, mut file } = opened;
    let build = |template: &String| ChatTemplate::new(template, &tokenizer);
    let template = file.chat_template.as_ref().map(build).transpose().context("chat template")?;
    let name = served_name.map_or_else(|| source.served_name(), str::to_string);
    let draft = args.speculating().open(&file, args.quantization)?;
    let adapters = Adapters::open(&args.lora, &file.config, &name)?;
    let files = (&file, draft.as_ref(), &adapters);
    let Plan { budget, sizes, config, info } = plan(args, files, name, connections)?;
    tracing::info!("{budget}");
    if let Some(draft) = &draft {
        tracing::info!("{}", draft.memory(&sizes, args.threads()));
    }
    // The next three in the words that vLLM's users look for.
    tracing::info!("Available KV cache memory: {:.2} GiB", budget.kv_bytes as f64 / GIB);
    tracing::info!("{}", budget.log_line("CPU"));
    if let Some(line) = budget.window_line() {
        tracing::info!("{line}");
    }
    let step = config.max_num_batched_tokens;
    tracing::info!("Chunked prefill is enabled with max_num_batched_tokens={step}.");
    tracing::info!("Keys and values are stored as {}", info.kv_cache_dtype);
    let mut cpu = Cpu::new(args.threads(), args.isa.unwrap_or_else(Isa::detect));
    let mut weights = Weights::load(&mut file, &mut cpu)?;
    weights.adapters = adapters.load()?;
    let transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
    let drafter = args.speculating().drafter(draft, sizes, &mut cpu)?;
    let device = CpuDevice::new(cpu, transformer, drafter);
    let engine = Engine::new(config, device);
    let (handle, worker) = engine::spawn(engine, SystemClock::new(), sink);
    Ok(Launched { handle, worker, tokenizer, template, info, sampling: file.sampling })
}

/// What a model and its options ask of this machine's memory, before any weight is read.
pub struct Requirements {
    /// What is asked for. The length is the model's where none is given.
    pub demand: Demand,
    /// What there is.
    pub memory: Memory,
    /// What the demand was computed for; the number of blocks is not known yet.
    pub sizes: TransformerSizes,
    /// Threads that compute.
    pub threads: usize,
    /// Requests that run or wait, at most.
    pub requests: u32,
    /// Connections, at most.
    pub connections: Connections,
}

impl Requirements {
    /// Of the model in `file` with these options, which were checked. Refuses what the kernels do not compute and a
    /// length that the model does not have.
    pub fn new(
        args: &EngineArgs,
        file: &ModelFile,
        machine: MachineMemory,
        connections: Connections,
    ) -> Result<Self> {
        Weights::check(&file.config)?;
        let context = u32::try_from(file.config.context_length).unwrap_or(u32::MAX);
        if let Some(asked) = args.max_model_len {
            ensure!(
                asked <= context,
                "--max-model-len is {asked}, more than the model's context of {context} tokens"
            );
        }
        let max_model_len = args.max_model_len.unwrap_or(context);
        let sizes = TransformerSizes {
            step_tokens_max: args.max_num_batched_tokens as usize,
            logits_rows_max: args.speculating().logits_rows_max(args.max_num_seqs()),
            positions_max: max_model_len as usize,
            asked_len: max_model_len as usize,
            block_size: args.block_size as usize,
            block_count: 0,
            kv_groups: args.kv_groups(file, max_model_len as usize),
            kv_type: args.kv_cache_dtype,
        };
        let threads = args.threads();
        let requests = args.max_num_seqs() + args.queued();
        let demand = Demand {
            weights_bytes: Weights::bytes_of(file),
            adapter_bytes: 0,
            activation_bytes: Transformer::activation_bytes(&file.config, &sizes, threads)
                + CpuDevice::thread_bytes(threads, &file.config, sizes.positions_max),
            buffer_bytes: buffer_bytes(requests, args.max_num_seqs(), max_model_len, connections),
            block_bytes: Transformer::block_bytes(&file.config, &sizes),
            block_size: args.block_size,
            kv_groups: sizes.kv_groups,
            max_num_batched_tokens: args.max_num_batched_tokens,
            max_model_len,
        };
        let memory = Memory {
            total_bytes: machine.total_bytes,
            available_bytes: machine.available_bytes,
            utilization: args.memory_utilization,
            kv_cache_bytes: args.kv_cache_memory_bytes,
        };
        Ok(Requirements { demand, memory, sizes, threads, requests, connections })
    }
}

fn plan(
    args: &EngineArgs,
    (file, draft, adapters): (&ModelFile, Option<&DraftFile>, &Adapters),
    served_name: String,
    connections: Connections,
) -> Result<Plan> {
    let machine = machine::memory()?;
    let Requirements { mut demand, memory, mut sizes, threads, .. } =
        Requirements::new(args, file, machine, connections)?;
    if let Some(draft) = draft {
        draft.memory(&sizes, threads).add_to(&mut demand);
    }
    demand.adapter_bytes = adapters.bytes(&file.config, &sizes, threads);
    let budget = divide(args, demand, memory)?;
    sizes.block_count = budget.block_count as usize;
    sizes.positions_max = budget.demand.max_model_len as usize;
    let config = EngineConfig {
        block_size: args.block_size,
        block_count: budget.block_count,
        kv_groups: budget.demand.kv_groups,
        max_model_len: budget.demand.max_model_len,
        max_num_seqs: args.max_num_seqs(),
        max_num_batched_tokens: args.max_num_batched_tokens,
        max_num_queued_reqs: args.queued(),
        prefix_cache: args.enable_prefix_caching,
        scheduling_policy: args.scheduling_policy,
        speculation: args.speculating().engine(),
    };
    let adapters = adapters.infos();
    let info = ServerInfo { adapters, ..info(args, file, served_name, &budget, machine) };
    Ok(Plan { budget, sizes, config, info })
}

/// Divides the memory. Without `--max-model-len` a context that does not fit is cut, and that is
/// said.
fn divide(args: &EngineArgs, demand: Demand, memory: Memory) -> Result<Budget> {
    match Budget::new(demand, memory) {
        Err(BudgetError::ModelLenTooLong { .. }) if args.max_model_len.is_none() => {
            let fits = feasible_model_len(&demand, &memory)?;
            tracing::warn!(
                "the model's context of {} tokens does not fit the KV cache; max_model_len is {fits}",
                demand.max_model_len
            );
            Ok(Budget::new(Demand { max_model_len: fits, ..demand }, memory)?)
        }
        budget => Ok(budget?),
    }
}

fn info(
    args: &EngineArgs,
    file: &ModelFile,
    served_name: String,
    budget: &Budget,
    memory: MachineMemory,
) -> ServerInfo {
    ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        model: served_name,
        root: args.model.clone(),
        adapters: Vec::new(),
        device: machine::description(memory),
        memory_utilization: args.kv_cache_memory_bytes.is_none().then_some(args.memory_utilization),
        kv_cache_memory_bytes: budget.kv_bytes,
        max_num_seqs: args.max_num_seqs(),
        max_model_len: budget.demand.max_model_len,
        embedding_len: u32::try_from(file.config.hidden_size).expect("a tensor's side, checked"),
        max_num_batched_tokens: args.max_num_batched_tokens,
        num_speculative_tokens: args.speculating().engine().draft_tokens_max,
        block_size: args.block_size,
        block_count: budget.block_count,
        kv_cache_dtype: args.kv_cache_dtype.to_string(),
        kv_cache_tokens: budget.kv_tokens(),
        max_concurrency: budget.max_concurrency(),
        concurrency_line: budget.log_line("CPU"),
        prefix_caching: args.enable_prefix_caching,
        threads: args.threads(),
    }
}

#[cfg(test)]
mod tests;
