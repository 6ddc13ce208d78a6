//! The page: what belongs before, between and after the charts.

use workload::analysis::Finding;
use workload::gauges::GaugeSample;
use workload::record::RequestRecord;
use workload::report::Report;

use crate::figure::Figure;
use crate::level::{LevelView, cap, focus, is_capped};
use crate::markup::Markup;
use crate::words::Words;
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
        html.open("html", &[("lang", self.words().code)]);
        self.head(&mut html);
        html.open("body", &[]);
        html.constant(PATTERNS);
        self.header(&mut html);
        html.open("main", &[]);
        self.verdict(&mut html, &levels);
        all_levels(&mut html, self.words(), &levels);
        each_level(&mut html, self.words(), &levels);
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

    fn words(&self) -> &'static Words {
        Words::of(self.report.language)
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
                words: self.words(),
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
        let [system, light, dark] = self.words().document.themes;
        let names = [("data-system", system), ("data-light", light), ("data-dark", dark)];
        let button = [("id", "theme"), ("type", "button"), ("class", "scripted")];
        html.element("button", &[&button[..], &names[..]].concat(), system);
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
        let words = self.words();
        html.element("h2", &[], words.document.verdict);
        if let Some(first) = self.report.analysis.first() {
            html.element("p", &[("class", "verdict")], first);
        }
        if let Some((level, why)) = focus(levels).and_then(|l| Some((l, reading::why(l)?))) {
            html.open("p", &[("class", "why")]);
            html.text(&why);
            html.constant(" ");
            let target = format!("#{}", level.id());
            html.element("a", &[("href", &target)], words.document.see_requests);
            html.close("p");
        }
        html.add(&tables::overview(words, levels));
        footnote(html, words, levels);
        if self.is_measurement {
            html.element("p", &[("id", "validity")], tables::worst(words, levels));
            details(html, words.document.client_readings, &tables::validity(words, levels));
        }
        html.close("section");
    }

    fn analysis(&self, html: &mut Markup) {
        html.open("section", &[("id", "analysis")]);
        html.element("h2", &[], self.words().document.analysis);
        for paragraph in self.report.analysis {
            html.element("p", &[], paragraph);
        }
        html.close("section");
    }

    fn about(&self, html: &mut Markup) {
        html.open("section", &[("id", "about")]);
        let words = &self.words().document;
        html.element("h2", &[], words.about);
        html.add(&tables::facts(self.facts));
        if !self.definitions.is_empty() {
            // They are those of summary.json, to the letter.
            let mut definitions = Markup::default();
            definitions.open("div", &[("lang", "en")]);
            definitions.add(&tables::facts(self.definitions));
            definitions.close("div");
            details(html, words.definitions, &definitions);
        }
        let mut report = Markup::default();
        report.element("pre", &[("tabindex", "0")], &self.report.to_markdown());
        details(html, words.markdown, &report);
        html.close("section");
    }
}

/// Charts that compare levels.
fn all_levels(html: &mut Markup, words: &Words, levels: &[LevelView<'_>]) {
    html.open("section", &[("id", "levels")]);
    html.element("h2", &[], words.document.all_levels);
    html.open("div", &[("class", "charts")]);
    let charts = [
        curves::throughput(words, levels),
        curves::scaling(words, levels),
        distribution::ttft(words, levels),
        distribution::latency(words, levels),
        decomposition::chart(words, levels),
    ];
    figures(html, charts);
    html.close("div");
    html.close("section");
}

/// Charts and figures of each level, one of them shown at a time if there is a script.
fn each_level(html: &mut Markup, words: &Words, levels: &[LevelView<'_>]) {
    html.open("section", &[("id", "each")]);
    html.element("h2", &[], words.document.each_level);
    let shown = focus(levels).map(|level| level.number);
    let label = words.document.level;
    html.open("div", &[("class", "choice scripted"), ("role", "group"), ("aria-label", label)]);
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
        html.add(&tables::level(words, level));
        if let Some(why) = reading::why(level) {
            html.element("p", &[("class", "why")], &why);
        }
        figures(html, [requests::chart(level), gaps::chart(level)]);
        html.close("section");
    }
    footnote(html, words, levels);
    html.close("section");
}

fn figures<const N: usize>(html: &mut Markup, charts: [Option<Figure>; N]) {
    for chart in charts.into_iter().flatten() {
        html.add(&chart.into_html());
    }
}

fn footnote(html: &mut Markup, words: &Words, levels: &[LevelView<'_>]) {
    if let Some(text) = tables::footnote(words, levels) {
        html.element("p", &[("class", "small")], &text);
    }
}

fn details(html: &mut Markup, summary: &str, content: &Markup) {
    html.open("details", &[]);
    html.element("summary", &[], summary);
    html.add(content);
    html.close("details");
}
