//! English.

use super::{Chart, Charts, Document, Levels, Requests, Tables, Words};
use crate::number::counted;

mod sentences;

pub(super) const WORDS: Words = Words {
    code: "en",
    document: Document {
        themes: ["Theme: as the system", "Theme: light", "Theme: dark"],
        verdict: "Verdict",
        see_requests: "See every request of that level.",
        client_readings: "What the client read of itself",
        all_levels: "All levels",
        each_level: "Level by level",
        level: "Level",
        analysis: "Analysis",
        about: "What was run, and what the figures mean",
        definitions: "Definitions",
        markdown: "The report as Markdown",
    },
    levels: Levels {
        users,
        trace: |number| format!("trace {number}"),
        rate: |rate| format!("{rate} requests/s"),
    },
    tables: TABLES,
    charts: CHARTS,
    requests: REQUESTS,
    sentences: sentences::SENTENCES,
};

fn users(users: u32) -> String {
    counted(u64::from(users), "user", "users")
}

const TABLES: Tables = Tables {
    overview: [
        "Load",
        "Tokens/s",
        "TTFT P50 (ms)",
        "TTFT P95 (ms)",
        "Latency P50 (ms)",
        "Latency P95 (ms)",
        "Requests",
        "Not answered",
        "Time (s)",
        "In flight (mean)",
    ],
    validity: [
        "Load",
        "Measurement",
        "Sent late, P99 (ms)",
        "allowed (ms)",
        "Load delivered",
        "Client thread",
        "Client woke late, P99 (ms)",
        "Client (cores)",
        "Server (cores)",
    ],
    validity_name: "How far each level can be trusted",
    level_name: |level| format!("Times and tokens of {level}"),
    metric: "Metric",
    tpot: "Time per later token (ms)",
    itl: "Gap between tokens, ITL (ms)",
    icl: "Gap between chunks, ICL (ms)",
    longest_gap: "Longest gap of a request (ms)",
    verdicts: ["valid", "warning", "INVALID"],
    worst: [
        "Valid measurement: the client kept its limits at every level.",
        "Valid measurement with a warning: a level breached a limit of what the client must keep.",
        "INVALID measurement: a level breached two limits or more of what the client must keep.",
    ],
    footnote: |p95, p99| {
        format!(
            "† Too few requests to bound this percentile with 95 % confidence ({p95} for P95, \
             {p99} for P99): it is an interpolation towards the maximum."
        )
    },
};

const CHARTS: Charts = Charts {
    latency: "Latency",
    tokens_per_second: "generated tokens/s",
    throughput: Chart {
        heading: "What more throughput costs in waiting",
        name: "Times against throughput",
    },
    throughput_note: "The numbers above the points are users.",
    time_axis: "time (log)",
    all_users_axis: "generated tokens/s, all users together",
    knee: |level| format!("knee: {level}"),
    beyond_cap: |cap| format!("more users than the cap of {cap}"),
    cap: |cap| format!("cap: {cap} at a time"),
    scaling: Chart { heading: "How throughput grows with users", name: "Throughput against users" },
    users_axis: "users (log)",
    rate_axis: "generated tokens/s (log)",
    measured: "measured",
    perfect: "perfect scaling",
    scaling_tip: |level, rate, share| {
        format!("{level}: {rate:.2} tokens/s, {share} of perfect scaling")
    },
    ttft: Chart { heading: "How long until the first token", name: "Distribution of TTFT" },
    ttft_axis: "time to first token (log)",
    last_token: Chart { heading: "How long until the last token", name: "Distribution of latency" },
    share_axis: "share of requests",
    decomposition: Chart {
        heading: "What the time to first token consists of",
        name: "Parts of the time to first token",
    },
    decomposition_note: "Each bar is a mean over its requests; its length is the whole of the time \
                         on its right, so bars show shares and numbers show times.",
    decomposition_axis: "share of the time to first token",
    parts: ["in the server's queue", "prompt is read", "client and network"],
    halves: ["quick half", "slowest 5 %"],
    token_gaps: |level| format!("Gaps between the tokens of {level}"),
    chunk_gaps: |level| format!("Gaps between the chunks of {level}"),
    gap_axis: "gap to the one before (log)",
    gap_note: "Each cell counts the gaps of its span of time and length.",
    chunk_note: "The server does not say how many tokens a chunk holds.",
    gap_key: "1 gap or more in a cell",
    seconds_axis: "seconds since the first request of this level",
};

const REQUESTS: Requests = Requests {
    heading: |level| format!("Every request of {level}, and what the server did meanwhile"),
    name: |level| format!("Requests of {level}"),
    in_flight: "Requests in flight",
    receiving: "receiving tokens, as the client sees it",
    silent: "sent, and without a first token",
    gauges: "Running and waiting requests",
    running: "running",
    waiting: "waiting in the queue",
    kv: "KV cache",
    kv_axis: "KV cache in use",
    steady: "steady part: the load is the one asked for",
    rates: "Generated tokens per second",
    rows_thinned: |stride, total| format!("One row in {stride} of {total} is drawn."),
    requests_thinned: |skip| format!("One request in {skip} of a row is drawn."),
    readings_thinned: |stride, total| format!("One in {stride} of {total} readings is drawn."),
    user_rows: "Each row is a user, who sends the next request when the last one has been \
                answered. Point at a bar for its times.",
    free_rows: "Each row holds requests one after another. Point at a bar for its times.",
    users_title: "users, one row each",
    requests_title: "requests",
    who: |user, request| format!("user {user}, request {request}"),
    cancelled: ", cancelled",
    dropped: ", never sent",
    failed: |why| format!(", failed: {why}"),
    refused: |why| format!(", refused: {why}"),
    times: [", queue ", ", TTFT ", ", latency "],
    late: "due, and not yet sent by the client",
    queue: "in the server's queue",
    prefill: "prompt is read, and network",
    before_first: "until the first token",
    decode: "tokens are generated",
    lost: "not answered",
    count_axis: "requests",
    at_most: |cap| format!("at most {cap} run at once"),
};
