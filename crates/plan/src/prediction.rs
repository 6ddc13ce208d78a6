//! What a load test would report.

use std::fs;
use std::io;
use std::path::Path;

use page::Page;
use serde::Serialize;
use workload::analysis::{Evidence, Finding, analyse};
use workload::language::Language;
use workload::report::Report;
use workload::summary::{Counts, LevelSummary};

use crate::cost::StepCost;
use crate::observed::ServerSizes;
use crate::simulate::{LevelRun, ModelledServer};

/// A whole simulated run, summed up as a load test is.
#[derive(Clone, Debug)]
pub struct Prediction {
    server: ModelledServer,
    seed: u64,
    levels: Vec<LevelSummary>,
    findings: Vec<Finding>,
}

/// The contents of summary.json: the keys of a load test's, where both have them.
#[derive(Serialize)]
struct Summary<'a> {
    tool: &'static str,
    version: &'static str,
    server: Server,
    device_model: StepCost,
    seed: u64,
    counts: Counts,
    levels: &'a [LevelSummary],
    findings: &'a [Finding],
    analysis: Vec<String>,
}

#[derive(Serialize)]
struct Server {
    info: ServerSizes,
}

impl Prediction {
    /// Sums up what `runs` left behind on `server`, which drew chance from `seed`.
    pub fn of(server: ModelledServer, seed: u64, runs: &[LevelRun]) -> Prediction {
        let levels: Vec<LevelSummary> = runs.iter().map(LevelRun::summary).collect();
        let findings = analyse(&Evidence {
            levels: &levels,
            levels_not_run: &[],
            max_num_seqs: Some(server.engine.max_num_seqs),
            max_num_batched_tokens: Some(server.engine.max_num_batched_tokens),
            has_gauges: true,
            exact_prompts: true,
            host: None,
        });
        Prediction { server, seed, levels, findings }
    }

    /// The levels in numbers.
    pub fn levels(&self) -> &[LevelSummary] {
        &self.levels
    }

    /// The report of a load test, without a newline at its end; `basics` say what was modelled.
    pub fn report(&self, basics: &[String], language: Language) -> String {
        let analysis = self.analysis(language);
        Report { basics, levels: &self.levels, analysis: &analysis, language }.to_markdown()
    }

    /// The page of the run, whose levels are `runs`; `basics` say what was modelled.
    pub fn page(&self, basics: &[String], language: Language, runs: &[LevelRun]) -> String {
        let analysis = self.analysis(language);
        let drawn: Vec<page::LevelRun<'_>> = runs
            .iter()
            .map(|run| page::LevelRun { records: &run.records, samples: &run.samples })
            .collect();
        let cost = serde_json::to_string(&self.server.cost).expect("plain data with text keys");
        let (title, names) = match language {
            Language::English => {
                ("A load test that was simulated", ["Simulated by", "Seed", "Model of the device"])
            }
            Language::Chinese => ("模拟的负载测试", ["模拟工具", "随机种子", "设备模型"]),
        };
        let tool = format!("millrace plan {}", env!("CARGO_PKG_VERSION"));
        let values = [tool, self.seed.to_string(), cost];
        let facts: Vec<_> = names.map(str::to_owned).into_iter().zip(values).collect();
        let page = Page {
            title,
            is_measurement: false,
            report: Report { basics, levels: &self.levels, analysis: &analysis, language },
            findings: &self.findings,
            runs: &drawn,
            max_num_seqs: Some(self.server.engine.max_num_seqs),
            facts: &facts,
            definitions: &[],
        };
        page.to_html()
    }

    fn analysis(&self, language: Language) -> Vec<String> {
        self.findings.iter().map(|finding| finding.text(language)).collect()
    }

    /// The run in numbers, as JSON.
    fn summary(&self, language: Language) -> String {
        let counts = self.levels.iter().map(|level| level.counts);
        let summary = Summary {
            tool: "millrace plan",
            version: env!("CARGO_PKG_VERSION"),
            server: Server { info: ServerSizes::of(&self.server.engine) },
            device_model: self.server.cost,
            seed: self.seed,
            counts: counts.fold(Counts::default(), Counts::plus),
            levels: &self.levels,
            findings: &self.findings,
            analysis: self.analysis(language),
        };
        serde_json::to_string_pretty(&summary).expect("plain data with text keys") + "\n"
    }

    /// Writes report.md, report.html, summary.json and requests.jsonl into `folder`, which is made
    /// if it does not exist. They are those of a load test, so what reads its results reads these;
    /// `basics` say what was modelled.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        basics: &[String],
        language: Language,
        runs: &[LevelRun],
    ) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.md"), self.report(basics, language) + "\n")?;
        fs::write(folder.join("report.html"), self.page(basics, language, runs))?;
        fs::write(folder.join("summary.json"), self.summary(language))?;
        let mut lines = Vec::new();
        for record in runs.iter().flat_map(|run| &run.records) {
            serde_json::to_writer(&mut lines, record).expect("plain data with text keys");
            lines.push(b'\n');
        }
        fs::write(folder.join("requests.jsonl"), lines)
    }
}

#[cfg(test)]
mod tests {
    use workload::load::{LevelPlan, Load};

    use super::*;
    use crate::calibrate::{Held, Target, fit};
    use crate::observed::Observed;
    use crate::preset::SEED;
    use crate::simulate::Sweep;
    use workload::lengths::Lengths;

    fn sweep(users: &[u32]) -> Sweep<'static> {
        let lengths = Lengths { prompt_tokens: 50, output_tokens: 40 };
        let level = |&users| LevelPlan { load: Load::closed(users, 3), lengths: lengths.into() };
        Sweep { levels: users.iter().map(level).collect(), seed: 4, recording: None }
    }

    #[test]
    fn the_report_has_the_basics_the_levels_and_what_bound_them() {
        let runs = SEED.run(&sweep(&[2, 60])).expect("the requests fit");
        let prediction = Prediction::of(SEED, 4, &runs);
        let report = prediction.report(&["RTX 4090".to_owned()], Language::English);
        assert!(report.starts_with("# Basics\nRTX 4090\n\n## Concurrency Level: 2\n"), "{report}");
        for part in ["## Concurrency Level: 60\n", "# Analysis\n", "max_num_seqs=50"] {
            assert!(report.contains(part), "no {part} in {report}");
        }
        assert_eq!(prediction.levels().len(), 2);
    }

    #[test]
    fn a_folder_can_be_calibrated_from_like_that_of_a_load_test() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runs = SEED.run(&sweep(&[1, 4, 16])).expect("the requests fit");
        let prediction = Prediction::of(SEED, 4, &runs);
        let basics = ["RTX 4090".to_owned()];
        let written = prediction.write(folder.path(), &basics, Language::English, &runs);
        written.expect("writable");
        let observed = Observed::of_folder(folder.path()).expect("our own files");
        assert_eq!((observed.seed, observed.levels.len()), (4, 3));
        let otherwise = crate::simulate::tests::ENGINE;
        let engine = observed.server.engine(otherwise);
        assert_eq!(engine.max_num_batched_tokens, SEED.engine.max_num_batched_tokens);
        let target = Target { engine, seed: observed.seed, levels: &observed.levels };
        let fit = fit(&[target], &Held::default(), |_| ()).expect("three levels");
        assert!(fit.misfit < 0.5, "{fit:?}");
        assert!((fit.cost.host_us / SEED.cost.host_us - 1.0).abs() < 0.02, "{fit:?}");
        let report = fs::read_to_string(folder.path().join("report.md")).expect("written");
        assert!(report.starts_with("# Basics\nRTX 4090\n") && report.ends_with(".\n"), "{report}");
        let page = fs::read_to_string(folder.path().join("report.html")).expect("written");
        assert!(page.contains("id=\"requests-3\"") && !page.contains("measurement"));
    }
}
