//! The report, as Markdown.

use kernels::probe::Measured;

use super::Findings;
use super::ceiling::Step;

/// How the last table is read.
const LEGEND: &str = "\
Tokens per second. `memory`: if a step only read its weights and its keys and values, once, at the
DRAM peak. `compute`: if it only multiplied and added, at the peaks of int8 (products with quantised
weights), f32 (with float weights) and bf16 (attention; f32 in a tier without). The ceiling is the
lower of the two. Scales, norms and the outliers of activations count as nothing, so no kernel gets
all of it; what stays in a cache from step to step can lift a small model above its memory ceiling.
The share is that of the best run. Where medians are far from the best, the machine was busy with something else. A dash stands
for what is not known: the tier has no such instruction, or the contexts took too long to make.
";

/// Share of a core that each thread must have had: a core's clock may fall a little with the others'.
const CORES_SHARE_MIN: f64 = 0.75;

/// The whole report.
pub(super) fn report(findings: &Findings) -> String {
    let Findings { machine, model, threads, isa, .. } = findings;
    let version = env!("CARGO_PKG_VERSION").to_string();
    let mut text = "# Roofline\n\n".to_string();
    let tier = format!("{threads}, {isa}");
    let facts =
        [("machine", machine), ("threads, tier", &tier), ("model", model), ("millrace", &version)];
    text += "| | |\n|---|---|\n";
    text.extend(facts.map(|(what, value)| line(&[what, value])));
    text += "\n## Peaks of the machine\n\n";
    text += &peaks(findings);
    text += &warning(findings);
    text += "\n## Work of the model\n\n";
    text += &work(findings);
    text += "\n## Ceilings, and what is reached\n\n";
    text += &ceilings(findings);
    text += "\n";
    text + LEGEND
}

fn peaks(findings: &Findings) -> String {
    let rows = findings.peaks.rows.iter().map(|row| {
        let threads = row.threads.to_string();
        [row.what.clone(), threads].into_iter().chain(best_and_median(row.figure)).collect()
    });
    table(&["peak", "threads", "best", "median"], rows)
}

/// A paragraph if the threads had less than a core each.
fn warning(findings: &Findings) -> String {
    match findings.peaks.speed_up() {
        Some(times) if times < CORES_SHARE_MIN * findings.threads as f64 => format!(
            "\n**{} threads are only {times:.1} times as fast as one**: they share cores, or others \
             keep the machine busy. The ceilings below are of what was left.\n",
            findings.threads
        ),
        _ => String::new(),
    }
}

fn work(findings: &Findings) -> String {
    let demand = &findings.demand;
    let rows = [
        ("weights read by each step, MB", demand.weight_bytes / 1e6),
        ("keys and values of a token, kB", demand.kv_bytes / 1e3),
        ("multiply-adds of a token, millions", demand.token.total() / 1e6),
        ("those of the head, per sampled token, millions", demand.head.total() / 1e6),
        ("those of attention, per 1000 tokens seen, millions", demand.pair * 1000.0 / 1e6),
    ];
    table(&["work", ""], rows.map(|(what, amount)| vec![what.to_string(), number(amount)]))
}

fn ceilings(findings: &Findings) -> String {
    let head =
        ["step", "memory", "compute", "ceiling", "bound by", "reached", "median", "share, %"];
    let rows = findings.steps.iter().map(|&(step, reached)| {
        let ceiling = findings.demand.ceiling(step, findings.peaks.rates);
        let binding = ceiling.binding();
        let share = reached.zip(binding).map(|(reached, (most, _))| 100.0 * reached.best / most);
        let mut cells = vec![
            label(step),
            number(ceiling.memory),
            optional(ceiling.compute),
            optional(binding.map(|(most, _)| most)),
            binding.map_or("-", |(_, name)| name).to_string(),
        ];
        cells.extend(best_and_median(reached));
        cells.push(optional(share));
        cells
    });
    table(&head, rows)
}

fn label(step: Step) -> String {
    match step.position {
        0 => step.to_string(),
        context => format!("{step} at {context} tokens"),
    }
}

fn best_and_median(figure: Option<Measured>) -> [String; 2] {
    [optional(figure.map(|figure| figure.best)), optional(figure.map(|figure| figure.median))]
}

fn optional(value: Option<f64>) -> String {
    value.map_or("-".to_string(), number)
}

/// Three digits where there is a fraction.
fn number(value: f64) -> String {
    let decimals = match value {
        _ if 100.0 <= value => 0,
        _ if 10.0 <= value => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// A table whose first column is text, the others numbers.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rule = format!("|---{}|\n", "|---:".repeat(head.len() - 1));
    let rows: String = rows.into_iter().map(|cells| line(&cells)).collect();
    line(head) + &rule + &rows
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_where_there_is_a_fraction() {
        for (value, text) in [(1234.5, "1234"), (99.96, "100.0"), (12.34, "12.3"), (0.5, "0.50")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn tables_are_markdown() {
        let rows = [vec!["x".to_string(), "1".to_string()]];
        assert_eq!(table(&["what", "n"], rows), "| what | n |\n|---|---:|\n| x | 1 |\n");
    }
}
