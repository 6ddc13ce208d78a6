//! Distance of the shipped path from float32: `cargo bench -p model --bench divergence [-- FILE]`.
//!
//! The truth is a float32 forward of the same file's dequantised weights, with keys and values in
//! float32; a test compares it with a reference made outside this project. Both are teacher-forced
//! over the same tokens, and the Kullback-Leibler divergence of the next token's distribution is
//! taken over the whole vocabulary, in float64.
//!
//! Positions are those of llama.cpp's `llama-perplexity --kl-divergence`, for a comparison line by
//! line: a text is cut into windows of 512 tokens without a begin token, and the 255 positions of
//! each window's second half that have a next token count. Paths are relative to `crates/model`.

use std::fs;
use std::path::{Path, PathBuf};

use engine::KvGroups;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use kernels::share::SequenceRows;
use model::file::ModelFile;
use model::transformer::{Batch, Transformer, TransformerSizes};
use model::weights::Weights;
use serde_json::Value;
use text::{ControlTokens, Tokenizer};

const WINDOW: usize = 512;
const BLOCK: usize = 32;

/// Texts that do not change, as the tables made of them.
const DEFAULT_TEXTS: [&str; 2] = ["LICENSE", "fixtures/reference/documentation.txt"];

/// Tokens to feed, and the first position whose next token is judged.
struct Passage {
    tokens: Vec<u32>,
    first: usize,
}

struct Source {
    name: String,
    passages: Vec<Passage>,
}

fn main() {
    let model = catalogue::fetch("smollm2-135m", &mut |_| {}).expect("the default model");
    let mut file = ModelFile::open(&model).expect("the file opens");
    let mut cpu =
        Cpu::new(std::thread::available_parallelism().map_or(1, usize::from), Isa::detect());
    let tokenizer = Tokenizer::new(file.tokenizer.clone()).expect("the model's tokenizer");
    let sources = sources(&tokenizer);
    let weights = Weights::load_float32(&mut file, &mut cpu).expect("the weights load");
    let mut truth = Transformer::new(file.config.clone(), weights, sizes(KvType::F32), &cpu);
    let mut shipped = KvType::OFFERED.map(|kv_type| {
        let weights = Weights::load(&mut file, &mut cpu).expect("the weights load");
        Transformer::new(file.config.clone(), weights, sizes(kv_type), &cpu)
    });
    println!("tier {}; divergences in nats\n", cpu.isa());
    println!(
        "| text | KV cache | positions | mean KL | 99 % | largest | same best token \
         | perplexity float32 | perplexity |\n|---|---|---|---|---|---|---|---|---|"
    );
    let mut totals = KvType::OFFERED.map(|_| Divergence::default());
    for source in &sources {
        let mut found = KvType::OFFERED.map(|_| Divergence::default());
        for passage in &source.passages {
            let expected = logits(&mut truth, &mut cpu, passage).to_vec();
            for (transformer, found) in shipped.iter_mut().zip(&mut found) {
                found.add(passage, &expected, logits(transformer, &mut cpu, passage));
            }
        }
        for ((kv_type, found), total) in KvType::OFFERED.iter().zip(found).zip(&mut totals) {
            found.print_row(&source.name, *kv_type);
            total.merge(found);
        }
    }
    for (kv_type, total) in KvType::OFFERED.into_iter().zip(totals) {
        total.print_row("all", kv_type);
    }
}

fn sizes(kv_type: KvType) -> TransformerSizes {
    TransformerSizes {
        step_tokens_max: WINDOW,
        logits_rows_max: WINDOW / 2,
        positions_max: WINDOW,
        asked_len: WINDOW,
        block_size: BLOCK,
        block_count: WINDOW / BLOCK,
        kv_groups: KvGroups::ONE,
        kv_type,
    }
}

/// The reference cases, then the texts of the command line or else those that do not change.
fn sources(tokenizer: &Tokenizer) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Cargo itself passes `--bench`.
    let given: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).map(PathBuf::from).collect();
    let texts =
        if given.is_empty() { DEFAULT_TEXTS.map(|text| root.join(text)).to_vec() } else { given };
    let mut sources = vec![reference_cases(&root)];
    sources.extend(texts.iter().map(|path| windows(path, tokenizer)));
    sources
}

fn reference_cases(root: &Path) -> Source {
    let text = read(&root.join("fixtures/reference/smollm2_greedy.json"));
    let json: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let ids = |list: &Value| -> Vec<u32> {
        let list = list.as_array().expect("a list of ids");
        list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
    };
    let cases = json["cases"].as_array().expect("a list of cases");
    let passages = cases.iter().map(|case| {
        let mut tokens = ids(&case["prompt_ids"]);
        let first = tokens.len() - 1;
        tokens.extend(ids(&case["greedy_ids"]));
        Passage { tokens, first }
    });
    Source { name: "reference cases".to_owned(), passages: passages.collect() }
}

fn windows(path: &Path, tokenizer: &Tokenizer) -> Source {
    let tokens = tokenizer.encode(&read(path), ControlTokens::AsText).expect("a text");
    let windows = tokens.chunks_exact(WINDOW);
    assert!(windows.len() > 0, "{}: {} tokens, fewer than {WINDOW}", path.display(), tokens.len());
    Source {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        passages: windows
            .map(|window| Passage { tokens: window.to_vec(), first: WINDOW / 2 })
            .collect(),
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Logits of every position that is judged, `[positions, vocab_size]`.
fn logits<'a>(transformer: &'a mut Transformer, cpu: &mut Cpu, passage: &Passage) -> &'a [f32] {
    let tokens = &passage.tokens[..passage.tokens.len() - 1];
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK) as u32).collect();
    let sequence = SequenceRows { row: 0, rows: tokens.len(), position: 0, blocks: &blocks };
    let logits_rows: Vec<usize> = (passage.first..tokens.len()).collect();
    transformer
        .forward(
            cpu,
            Batch {
                tokens,
                sequences: &[sequence],
                adapters: &[],
                logits_rows: &logits_rows,
                top_rows: &[],
            },
        )
        .logits
}

/// What the positions of a text showed.
#[derive(Default)]
struct Divergence {
    /// KL(truth || shipped) of each position, in nats.
    kl: Vec<f64>,
    same_best: usize,
    /// Sums of -ln p(next token), of the truth and of the shipped path.
    surprise_truth: f64,
    surprise: f64,
}

impl Divergence {
    fn add(&mut self, passage: &Passage, truth: &[f32], shipped: &[f32]) {
        let next = &passage.tokens[passage.first + 1..];
        let vocabulary = truth.len() / next.len();
        let rows = truth.chunks_exact(vocabulary).zip(shipped.chunks_exact(vocabulary));
        for ((truth, shipped), &next) in rows.zip(next) {
            let (log_sum_truth, log_sum) = (log_sum_exp(truth), log_sum_exp(shipped));
            let kl = truth.iter().zip(shipped).map(|(&truth, &shipped)| {
                let log_truth = f64::from(truth) - log_sum_truth;
                log_truth.exp() * (log_truth - (f64::from(shipped) - log_sum))
            });
            self.kl.push(kl.sum());
            self.same_best += usize::from(best(truth) == best(shipped));
            self.surprise_truth += log_sum_truth - f64::from(truth[next as usize]);
            self.surprise += log_sum - f64::from(shipped[next as usize]);
        }
    }

    fn merge(&mut self, other: Divergence) {
        self.kl.extend(other.kl);
        self.same_best += other.same_best;
        self.surprise_truth += other.surprise_truth;
        self.surprise += other.surprise;
    }

    fn print_row(&self, text: &str, kv_type: KvType) {
        let mut sorted = self.kl.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let variance = sorted.iter().map(|kl| (kl - mean).powi(2)).sum::<f64>() / (count - 1.0);
        println!(
            "| {text} | {kv_type} | {} | {mean:.6} ± {:.6} | {:.5} | {:.5} \
             | {:.2} % | {:.4} | {:.4} |",
            sorted.len(),
            (variance / count).sqrt(),
            sorted[(sorted.len() * 99).div_ceil(100) - 1],
            sorted[sorted.len() - 1],
            100.0 * self.same_best as f64 / count,
            (self.surprise_truth / count).exp(),
            (self.surprise / count).exp(),
        );
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits[best(logits)]);
    logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln() + most
}

/// The index of the largest; of equals the first.
fn best(logits: &[f32]) -> usize {
    let better = |best, (i, &logit): (usize, &f32)| if logit > logits[best] { i } else { best };
    logits.iter().enumerate().fold(0, better)
}
