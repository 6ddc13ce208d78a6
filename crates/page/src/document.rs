//! The page: what belongs before, between and after the charts.

use workload::analysis::Finding;
use workload::gauges::GaugeSample;
use workload::language::Language;
use workload::record::RequestRecord;
use workload::report::Report;

use crate::figure::Figure;
use crate::level::{LevelView, cap, focus, is_capped};
use crate::markup::Markup;
use crate::{curves, decomposition, distribution, gaps, reading, requests, tables};

/// Nothing may be loaded or sent; what is inside the file may be used.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The pattern of what waits, for all charts of the page.
const PATTERNS: &str = concat!(
    r#"<svg width="0" height="0" class="defs" aria-hidden="true"><defs>"#,
    r#"<pattern id="hatch" width="12" height="6" patternUnits="userSpaceOnUse">"#,
    r#"<rect width="12" height="6" class="hatch-ground"/>"#,
    r#"<path d="M-2 1L2 -1M0 6L12 0M10 7L14 5" class="hatch-line"/></pattern></defs></svg>"#
);

/// What is known of the requests of one level.
#[derive(Clone, Copy, Debug)]
pub struct LevelRun<'a> {
    /// Its requests, in any order.
    pub records: &'a [RequestRecord],
    /// The server's gauges meanwhile, in the order of time; empty if it has none.
    pub samples: &'a [GaugeSample],
}

/// Everything that the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What was tested, in a few words.
    pub title: &'a str,
    /// Whether a client sent these requests, whose fitness then matters; a simulation has none.
    pub is_measurement: bool,
    /// The report that the page illustrates. Its analysis begins with the verdict.
    pub report: Report<'a>,
    /// What the analysis was written from.
    pub findings: &'a [Finding],
    /// The requests of each level of the report, in the same order.
    pub runs: &'a [LevelRun<'a>],
    /// The server's cap on sequences that run at once, if it says.
    pub max_num_seqs: Option<u32>,
    /// What was run, by name: the command, versions, lengths.
    pub facts: &'a [(String, String)],
    /// What the figures mean, by name.
    pub definitions: &'a [(String, String)],
}

impl Page<'_> {
    /// The page as one HTML file. The same input gives the same bytes.
    ///
    /// # Panics
    /// If there are not as many runs as levels.
    pub fn to_html(&self) -> String {
        let levels = self.levels();
        let mut html = Markup::default();
        html.constant("<!DOCTYPE html>\n");
        html.open("html", &[("lang", "en")]);
        self.head(&mut html);
        html.open("body", &[]);
        html.constant(PATTERNS);
        self.header(&mut html);
        html.open("main", &[]);
        self.verdict(&mut html, &levels);
        all_levels(&mut html, &levels);
        each_level(&mut html, &levels);
        self.analysis(&mut html);
        self.about(&mut html);
        html.close("main");
        html.open("script", &[]);
        html.constant(SCRIPT);
        html.close("script");
        html.close("body");
        html.close("html");
        html.into_text() + "\n"
    }

    fn levels(&self) -> Vec<LevelView<'_>> {
        let (levels, runs) = (self.report.levels, self.runs);
        assert_eq!(levels.len(), runs.len(), "each level has its requests");
        let cap = cap(self.max_num_seqs, self.findings);
        let views = levels.iter().zip(runs).enumerate();
        views
            .map(|(index, (summary, run))| LevelView {
                number: index + 1,
                summary,
                records: run.records,
                start_ns: run.records.iter().map(|record| record.sent_ns).min().unwrap_or(0),
                samples: run.samples,
                cap,
                is_capped: is_capped(summary.plan.users(), self.findings),
            })
            .collect()
    }

    fn head(&self, html: &mut Markup) {
        html.open("head", &[]);
        html.constant("<meta charset=\"utf-8\">");
        html.open("meta", &[("http-equiv", "Content-Security-Policy"), ("content", POLICY)]);
        html.constant("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        html.element("title", &[], self.title);
        html.open("style", &[]);
        html.constant(STYLE);
        html.close("style");
        html.close("head");
    }

    fn header(&self, html: &mut Markup) {
        html.open("header", &[]);
        html.element("h1", &[], self.title);
        html.element(
            "button",
            &[("id", "theme"), ("type", "button"), ("class", "scripted")],
            "Theme: as the system",
        );
        html.open("p", &[("class", "basics")]);
        for (n, line) in self.report.basics.iter().enumerate() {
            if 0 < n {
                html.constant("<br>");
            }
            html.text(line);
        }
        html.close("p");
        html.close("header");
    }

    fn verdict(&self, html: &mut Markup, levels: &[LevelView<'_>]) {
        html.open("section", &[("id", "verdict")]);
        html.element("h2", &[], "Verdict");
        if let Some(first) = self.report.analysis.first() {
            html.element("p", &[("class", "verdict"), ("lang", self.language())], first);
        }
        if let Some((level, why)) = focus(levels).and_then(|l| Some((l, reading::why(l)?))) {
            html.open("p", &[("class", "why")]);
            html.text(&why);
            html.constant(" ");
            let target = format!("#{}", level.id());
            html.element("a", &[("href", &target)], "See every request of that level.");
            html.close("p");
        }
        html.add(&tables::overview(levels));
        footnote(html, levels);
        if self.is_measurement {
            html.element("p", &[("id", "validity")], tables::worst(levels));
            details(html, "What the client read of itself", &tables::validity(levels));
        }
        html.close("section");
    }

    fn analysis(&self, html: &mut Markup) {
        html.open("section", &[("id", "analysis")]);
        html.element("h2", &[], "Analysis");
        for paragraph in self.report.analysis {
            html.element("p", &[("lang", self.language())], paragraph);
        }
        html.close("section");
    }

    fn about(&self, html: &mut Markup) {
        html.open("section", &[("id", "about")]);
        html.element("h2", &[], "What was run, and what the figures mean");
        html.add(&tables::facts(self.facts));
        if !self.definitions.is_empty() {
            details(html, "Definitions", &tables::facts(self.definitions));
        }
        let mut report = Markup::default();
        report.element("pre", &[("tabindex", "0")], &self.report.to_markdown());
        details(html, "The report as Markdown", &report);
        html.close("section");
    }

    fn language(&self) -> &'static str {
        match self.report.language {
            Language::English => "en",
            Language::Chinese => "zh",
        }
    }
}

/// Charts that compare levels.
fn all_levels(html: &mut Markup, levels: &[LevelView<'_>]) {
    html.open("section", &[("id", "levels")]);
    html.element("h2", &[], "All levels");
    html.open("div", &[("class", "charts")]);
    let charts = [
        curves::throughput(levels),
        curves::scaling(levels),
        distribution::chart(levels, &distribution::TTFT),
        distribution::chart(levels, &distribution::LATENCY),
        decomposition::chart(levels),
    ];
    figures(html, charts);
    html.close("div");
    html.close("section");
}

/// Charts and figures of each level, one of them shown at a time if there is a script.
fn each_level(html: &mut Markup, levels: &[LevelView<'_>]) {
    html.open("section", &[("id", "each")]);
    html.element("h2", &[], "Level by level");
    let shown = focus(levels).map(|level| level.number);
    html.open("div", &[("class", "choice scripted"), ("role", "group"), ("aria-label", "Level")]);
    for level in levels {
        let pressed = if Some(level.number) == shown { "true" } else { "false" };
        let id = level.id();
        let attributes = [("type", "button"), ("data-show", &*id), ("aria-pressed", pressed)];
        html.element("button", &attributes, &level.name());
    }
    html.close("div");
    for level in levels {
        html.open("section", &[("class", "level"), ("id", &level.id())]);
        html.element("h3", &[("class", "name")], &level.name());
        html.add(&tables::level(level));
        if let Some(why) = reading::why(level) {
            html.element("p", &[("class", "why")], &why);
        }
        figures(html, [requests::chart(level), gaps::chart(level)]);
        html.close("section");
    }
    footnote(html, levels);
    html.close("section");
}

fn figures<const N: usize>(html: &mut Markup, charts: [Option<Figure>; N]) {
    for chart in charts.into_iter().flatten() {
        html.add(&chart.into_html());
    }
}

fn footnote(html: &mut Markup, levels: &[LevelView<'_>]) {
    if let Some(text) = tables::footnote(levels) {
        html.element("p", &[("class", "small")], &text);
    }
}

fn details(html: &mut Markup, summary: &str, content: &Markup) {
    html.open("details", &[]);
    html.element("summary", &[], summary);
    html.add(content);
    html.close("details");
}
