//! The page's own words in each language.
//!
//! What is said is decided in `reading` and in the charts; here stands only how it is said.

use workload::language::Language;
use workload::percentile::Spread;
use workload::waits::WaitShape;

mod chinese;
mod english;

/// All words of the page in one language.
pub(crate) struct Words {
    /// Its code in HTML.
    pub(crate) code: &'static str,
    pub(crate) document: Document,
    pub(crate) levels: Levels,
    pub(crate) tables: Tables,
    pub(crate) charts: Charts,
    pub(crate) requests: Requests,
    pub(crate) sentences: Sentences,
}

impl Words {
    /// Those of a language.
    pub(crate) fn of(language: Language) -> &'static Words {
        match language {
            Language::English => &english::WORDS,
            Language::Chinese => &chinese::WORDS,
        }
    }
}

/// Headings and buttons.
pub(crate) struct Document {
    /// The theme as the system has it, light, dark.
    pub(crate) themes: [&'static str; 3],
    pub(crate) verdict: &'static str,
    pub(crate) see_requests: &'static str,
    pub(crate) client_readings: &'static str,
    pub(crate) all_levels: &'static str,
    pub(crate) each_level: &'static str,
    pub(crate) level: &'static str,
    pub(crate) analysis: &'static str,
    pub(crate) about: &'static str,
    pub(crate) definitions: &'static str,
    pub(crate) markdown: &'static str,
}

/// Names of levels.
pub(crate) struct Levels {
    pub(crate) users: fn(u32) -> String,
    /// Of the level with this number.
    pub(crate) trace: fn(usize) -> String,
    /// Of requests per second, as a number or a range.
    pub(crate) rate: fn(&str) -> String,
}

/// Words of the tables.
pub(crate) struct Tables {
    pub(crate) overview: [&'static str; 10],
    pub(crate) validity: [&'static str; 9],
    pub(crate) validity_name: &'static str,
    /// Of a level by its name.
    pub(crate) level_name: fn(&str) -> String,
    pub(crate) metric: &'static str,
    pub(crate) tpot: &'static str,
    pub(crate) itl: &'static str,
    pub(crate) icl: &'static str,
    pub(crate) longest_gap: &'static str,
    /// A level as a measurement: valid, with a warning, invalid.
    pub(crate) verdicts: [&'static str; 3],
    /// The run as a measurement, in the same order.
    pub(crate) worst: [&'static str; 3],
    /// Of the mark on percentiles; requests that bound P95 and P99.
    pub(crate) footnote: fn(usize, usize) -> String,
}

/// Words of charts.
pub(crate) struct Charts {
    pub(crate) latency: &'static str,
    pub(crate) tokens_per_second: &'static str,
    pub(crate) throughput: Chart,
    pub(crate) throughput_note: &'static str,
    pub(crate) time_axis: &'static str,
    pub(crate) all_users_axis: &'static str,
    /// Of the level with this name.
    pub(crate) knee: fn(&str) -> String,
    pub(crate) beyond_cap: fn(u32) -> String,
    pub(crate) cap: fn(u32) -> String,
    pub(crate) scaling: Chart,
    pub(crate) users_axis: &'static str,
    pub(crate) rate_axis: &'static str,
    pub(crate) measured: &'static str,
    pub(crate) perfect: &'static str,
    /// A level by name, its tokens per second, its share of perfect scaling.
    pub(crate) scaling_tip: fn(&str, f64, &str) -> String,
    pub(crate) ttft: Chart,
    pub(crate) ttft_axis: &'static str,
    pub(crate) last_token: Chart,
    pub(crate) share_axis: &'static str,
    pub(crate) decomposition: Chart,
    pub(crate) decomposition_note: &'static str,
    pub(crate) decomposition_axis: &'static str,
    /// Queue, prefill, network.
    pub(crate) parts: [&'static str; 3],
    /// The quick half and the slowest twentieth.
    pub(crate) halves: [&'static str; 2],
    /// Heading and name of the gaps between tokens of a level, and between its chunks.
    pub(crate) token_gaps: fn(&str) -> String,
    pub(crate) chunk_gaps: fn(&str) -> String,
    pub(crate) gap_axis: &'static str,
    pub(crate) gap_note: &'static str,
    pub(crate) chunk_note: &'static str,
    pub(crate) gap_key: &'static str,
    pub(crate) seconds_axis: &'static str,
}

/// A chart's heading, and its name for who cannot see it.
pub(crate) struct Chart {
    pub(crate) heading: &'static str,
    pub(crate) name: &'static str,
}

/// Words of the picture of all requests.
pub(crate) struct Requests {
    /// Of a level by name.
    pub(crate) heading: fn(&str) -> String,
    pub(crate) name: fn(&str) -> String,
    pub(crate) in_flight: &'static str,
    pub(crate) receiving: &'static str,
    pub(crate) silent: &'static str,
    pub(crate) gauges: &'static str,
    pub(crate) running: &'static str,
    pub(crate) waiting: &'static str,
    pub(crate) kv: &'static str,
    pub(crate) kv_axis: &'static str,
    pub(crate) steady: &'static str,
    pub(crate) rates: &'static str,
    /// One row in so many of so many is drawn.
    pub(crate) rows_thinned: fn(usize, usize) -> String,
    pub(crate) requests_thinned: fn(usize) -> String,
    pub(crate) readings_thinned: fn(usize, usize) -> String,
    pub(crate) user_rows: &'static str,
    pub(crate) free_rows: &'static str,
    pub(crate) users_title: &'static str,
    pub(crate) requests_title: &'static str,
    /// User and request, from 1.
    pub(crate) who: fn(u32, u32) -> String,
    pub(crate) cancelled: &'static str,
    pub(crate) dropped: &'static str,
    pub(crate) failed: fn(&str) -> String,
    pub(crate) refused: fn(&str) -> String,
    /// Queue, TTFT, latency; each with a time behind it.
    pub(crate) times: [&'static str; 3],
    pub(crate) late: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) prefill: &'static str,
    pub(crate) before_first: &'static str,
    pub(crate) decode: &'static str,
    pub(crate) lost: &'static str,
    pub(crate) count_axis: &'static str,
    pub(crate) at_most: fn(&str) -> String,
}

/// What charts show, in a sentence or two.
pub(crate) struct Sentences {
    pub(crate) nothing: fn(&str) -> String,
    pub(crate) why: fn(&Why<'_>) -> String,
    pub(crate) throughput: fn(&Throughput<'_>) -> String,
    pub(crate) scaling: fn(&Scaling) -> String,
    /// A level by name, the quantity, its values, whether few lie between the quick and the slow.
    pub(crate) distribution: fn(&str, &str, &Spread, bool) -> String,
    /// Times and shares in the queue of the quick half and of the slowest twentieth.
    pub(crate) decomposition: fn(&str, [(&str, &str); 2]) -> String,
    /// A level by name, its gaps, whether they are between tokens.
    pub(crate) gaps: fn(&str, &Spread, bool) -> String,
    pub(crate) requests: fn(&WaitShape) -> String,
    /// The most that ran while requests waited, how many then waited, and in how many of how many
    /// readings. None if no reading shows a queue.
    pub(crate) gauges: fn(Option<Queue>) -> String,
    /// Requests of a level, and the tokens of prompt and answer if all have as many.
    pub(crate) load: fn(usize, Option<(u32, u32)>) -> String,
    pub(crate) steady: fn(&Steady) -> String,
    pub(crate) goodput: fn(&Goodput) -> String,
}

/// Why the time to first token of a level is what it is.
pub(crate) struct Why<'a> {
    pub(crate) level: &'a str,
    pub(crate) ttft: Spread,
    pub(crate) waits: WaitShape,
    /// The cap that bound, and the users.
    pub(crate) capped: Option<(u32, u32)>,
    /// How long a wait was; none if nobody waited.
    pub(crate) wait: Option<Wait>,
    /// Whether places become free a whole batch at a time.
    pub(crate) in_batches: bool,
}

/// How long requests waited that waited.
pub(crate) struct Wait {
    pub(crate) mean_ms: f64,
    /// Whether that is about a whole service time.
    pub(crate) is_whole: bool,
    pub(crate) median: Median,
}

/// Where the requests that waited show among the percentiles.
pub(crate) enum Median {
    /// In P95 only.
    Quick,
    /// Already in P50.
    Waited,
    /// Not even in P95.
    Few,
}

/// What throughput costs in waiting.
pub(crate) struct Throughput<'a> {
    /// Name, tokens per second and P95 of the time to first token of the first and the last level,
    /// which may be the same.
    pub(crate) ends: [(&'a str, f64, Option<f64>); 2],
    pub(crate) is_one: bool,
    pub(crate) knee: Option<&'a str>,
    /// The gain for twice the users below which a level is the knee.
    pub(crate) knee_gain: f64,
    /// The cap, and the first level beyond it.
    pub(crate) beyond_cap: Option<(u32, &'a str)>,
}

/// How throughput grows from the first to the last number of users.
pub(crate) struct Scaling {
    pub(crate) users: [u32; 2],
    pub(crate) factor: f64,
    pub(crate) ideal: f64,
}

/// What gauges show while requests wait.
pub(crate) struct Queue {
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) samples: usize,
    pub(crate) of: usize,
}

/// A level without its beginning and end, beside the whole: tokens per second, and P95 of the time
/// to first token.
pub(crate) struct Steady {
    pub(crate) length_ms: f64,
    pub(crate) requests: usize,
    pub(crate) part: (f64, Option<f64>),
    pub(crate) whole: (f64, Option<f64>),
}

/// How many requests met what was expected of them.
pub(crate) struct Goodput {
    pub(crate) good: usize,
    pub(crate) requests: usize,
    pub(crate) share: f64,
    /// Of the time to first token, of each later one, of the last one; milliseconds.
    pub(crate) limits_ms: [Option<f64>; 3],
}
