//! report.html: the page of a run.

use page::{LevelRun, Page};
use serde::Serialize;
use serde_json::Value;
use workload::language::Language;
use workload::report::Report;

use crate::journal::Measured;
use crate::output::RunSummary;

/// Draws the page of a run whose levels are `measured` and that `command` asked for.
pub(crate) fn page(
    summary: &RunSummary,
    measured: &[Measured],
    language: Language,
    command: &str,
) -> String {
    let runs: Vec<LevelRun<'_>> = measured
        .iter()
        .map(|level| LevelRun { records: &level.records, samples: &level.samples })
        .collect();
    let page = Page {
        title: &title(&summary.setup.server.model, language),
        is_measurement: true,
        report: Report {
            basics: &summary.setup.server.basics(),
            levels: &summary.levels,
            analysis: &summary.analysis,
            language,
        },
        findings: &summary.findings,
        runs: &runs,
        max_num_seqs: summary.setup.server.info.as_ref().and_then(|info| info.max_num_seqs),
        facts: &facts(summary, command, language),
        definitions: &named(&summary.definitions),
    };
    page.to_html()
}

fn title(model: &str, language: Language) -> String {
    match language {
        Language::English => format!("Load test of {model}"),
        Language::Chinese => format!("{model} 的负载测试"),
    }
}

/// What was run, by name.
fn facts(summary: &RunSummary, command: &str, language: Language) -> Vec<(String, String)> {
    let server = &summary.setup.server;
    let version = server.info.as_ref().and_then(|info| info.version.clone());
    let fact = |english: &str, chinese: &str, value: String| {
        let name = match language {
            Language::English => english,
            Language::Chinese => chinese,
        };
        (name.to_owned(), value)
    };
    let tool = format!("{} {}", summary.setup.tool, summary.setup.version);
    let mut facts = vec![
        fact("Command", "命令", command.to_owned()),
        fact("Measured by", "测试工具", tool),
        fact("Server", "服务器", server.url.clone()),
        fact("Model", "模型", server.model.clone()),
    ];
    facts.extend(version.map(|version| fact("Version of the server", "服务器版本", version)));
    facts.push(fact(
        "Beside this file",
        "与本文件在一起",
        "requests.jsonl, summary.json, summary.csv, report.md".to_owned(),
    ));
    facts.push(fact("Seed of the prompts", "prompt 的随机种子", summary.setup.seed.to_string()));
    let sampling = named(&summary.setup.sampling).into_iter();
    facts.extend(
        sampling.map(|(name, value)| {
            fact(&format!("Sampling: {name}"), &format!("采样：{name}"), value)
        }),
    );
    facts
}

/// The fields of plain data, as text.
fn named(data: &impl Serialize) -> Vec<(String, String)> {
    let data = serde_json::to_value(data).expect("plain data with text keys");
    let fields = data.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.map(|(name, value)| (name.replace('_', " "), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Definitions;

    #[test]
    fn every_definition_has_its_name() {
        let definitions = named(&Definitions::OURS);
        let ttft = definitions.iter().find(|(name, _)| name == "ttft");
        assert_eq!(ttft.map(|(_, text)| &**text), Some(Definitions::OURS.ttft));
        assert!(definitions.iter().any(|(name, _)| name == "total time"));
    }
}
