//! Chinese. Metrics keep the names that the report has.

use super::{Chart, Charts, Document, Levels, Requests, Tables, Words};

mod sentences;

pub(super) const WORDS: Words = Words {
    code: "zh",
    document: Document {
        themes: ["主题：跟随系统", "主题：浅色", "主题：深色"],
        verdict: "结论",
        see_requests: "查看该档的每个请求。",
        client_readings: "客户端对自身的测量",
        all_levels: "各档对比",
        each_level: "逐档查看",
        level: "负载档",
        analysis: "分析",
        about: "测试内容与数据的含义",
        definitions: "定义",
        markdown: "Markdown 格式的报告",
    },
    levels: Levels {
        users,
        trace: |number| format!("记录重放 {number}"),
        rate: |rate| format!("每秒 {rate} 个请求"),
    },
    tables: TABLES,
    charts: CHARTS,
    requests: REQUESTS,
    sentences: sentences::SENTENCES,
};

fn users(users: u32) -> String {
    format!("{users} 个用户")
}

const TABLES: Tables = Tables {
    overview: [
        "负载",
        "Tokens/s",
        "TTFT P50 (ms)",
        "TTFT P95 (ms)",
        "Latency P50 (ms)",
        "Latency P95 (ms)",
        "请求数",
        "未得到回答",
        "用时 (s)",
        "平均在途请求",
    ],
    validity: [
        "负载",
        "测量",
        "发送延迟 P99 (ms)",
        "允许值 (ms)",
        "实际负载",
        "客户端线程",
        "客户端唤醒延迟 P99 (ms)",
        "客户端 (核)",
        "服务器 (核)",
    ],
    validity_name: "各档数据的可信程度",
    level_name: |level| format!("{level}的时间与 token 数"),
    metric: "Metric",
    tpot: "后续每个 token 的时间 TPOT (ms)",
    itl: "token 间隔 ITL (ms)",
    icl: "数据块间隔 ICL (ms)",
    longest_gap: "单个请求的最长间隔 (ms)",
    verdicts: ["有效", "警告", "无效 (INVALID)"],
    worst: [
        "测量有效：客户端在各档均未超出其限度。",
        "测量有效，但有警告：某一档超出了客户端的一项限度。",
        "测量无效 (INVALID)：某一档超出了客户端的两项或更多限度。",
    ],
    footnote: |p95, p99| {
        format!(
            "† 请求太少，无法以 95 % 的置信度界定该百分位数（P95 需 {p95} 个，P99 需 {p99} 个）：\
             它是向最大值的插值。"
        )
    },
};

const CHARTS: Charts = Charts {
    latency: "Latency",
    tokens_per_second: "每秒生成的 token",
    throughput: Chart { heading: "提高吞吐量的代价：等待", name: "时间与吞吐量" },
    throughput_note: "点上方的数字是用户数。",
    time_axis: "时间（对数）",
    all_users_axis: "每秒生成的 token，所有用户合计",
    knee: |level| format!("拐点：{level}"),
    beyond_cap: |cap| format!("用户数超过并发上限 {cap}"),
    cap: |cap| format!("上限：同时 {cap} 个"),
    scaling: Chart { heading: "吞吐量随用户数的增长", name: "吞吐量与用户数" },
    users_axis: "用户数（对数）",
    rate_axis: "每秒生成的 token（对数）",
    measured: "实测",
    perfect: "理想增长",
    scaling_tip: |level, rate, share| format!("{level}：{rate:.2} tokens/s，理想增长的 {share}"),
    ttft: Chart { heading: "多久得到第一个 token", name: "TTFT 的分布" },
    ttft_axis: "TTFT（对数）",
    last_token: Chart { heading: "多久得到最后一个 token", name: "Latency 的分布" },
    share_axis: "请求的比例",
    decomposition: Chart { heading: "TTFT 由什么构成", name: "TTFT 的各部分" },
    decomposition_note: "每个条形是其请求的平均值，长度代表右侧的全部时间：条形表示比例，数字表示时间。",
    decomposition_axis: "占 TTFT 的比例",
    parts: ["在服务器队列中", "计算 prompt", "客户端与网络"],
    halves: ["较快的一半", "最慢的 5 %"],
    token_gaps: |level| format!("{level}的 token 间隔"),
    chunk_gaps: |level| format!("{level}的数据块间隔"),
    gap_axis: "与前一个的间隔（对数）",
    gap_note: "每格统计落入该时间段与长度段的间隔数。",
    chunk_note: "服务器没有说明每个数据块含多少 token。",
    gap_key: "每格 1 个间隔或更多",
    seconds_axis: "自该档第一个请求起的秒数",
};

const REQUESTS: Requests = Requests {
    heading: |level| format!("{level}的每个请求，以及服务器在此期间的状态"),
    name: |level| format!("{level}的请求"),
    in_flight: "在途请求",
    receiving: "正在接收 token（客户端所见）",
    silent: "已发送，尚无第一个 token",
    gauges: "运行和等待的请求",
    running: "运行",
    waiting: "在队列中等待",
    kv: "KV 缓存",
    kv_axis: "KV 缓存占用率",
    steady: "稳态部分：负载与要求一致",
    rates: "每秒生成的 token",
    rows_thinned: |stride, total| format!("共 {total} 行，每 {stride} 行画一行。"),
    requests_thinned: |skip| format!("每行中每 {skip} 个请求画一个。"),
    readings_thinned: |stride, total| format!("共 {total} 次读数，每 {stride} 次画一次。"),
    user_rows: "每行是一个用户，上一个请求得到回答后才发送下一个。指向条形可查看其时间。",
    free_rows: "每行是先后相继的请求。指向条形可查看其时间。",
    users_title: "用户，每人一行",
    requests_title: "请求",
    who: |user, request| format!("用户 {user}，请求 {request}"),
    cancelled: "，已取消",
    dropped: "，未发送",
    failed: |why| format!("，失败：{why}"),
    refused: |why| format!("，被拒绝：{why}"),
    times: ["，排队 ", "，TTFT ", "，Latency "],
    late: "已到时间，客户端尚未发送",
    queue: "在服务器队列中",
    prefill: "计算 prompt 与网络",
    before_first: "直到第一个 token",
    decode: "正在生成 token",
    lost: "未得到回答",
    count_axis: "请求数",
    at_most: |cap| format!("最多同时运行 {cap} 个"),
};
