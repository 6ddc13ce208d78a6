//! `roofline`: a report that can be read by people and by programs.

use crate::process::millrace;

/// The cells of each row of the table below `heading`, without its head.
#[track_caller]
fn rows<'a>(report: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = report.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let table = lines.take_while(|line| line.starts_with('|')).skip(2);
    table.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The number in a cell; `-` stands for one that is not known.
#[track_caller]
fn number(cell: &str) -> Option<f64> {
    let number = || cell.parse().unwrap_or_else(|_| panic!("{cell:?} is no number"));
    (cell != "-").then(number).inspect(|number| assert!(0.0 < *number, "{cell}"))
}

#[test]
fn a_report_has_peaks_ceilings_and_what_is_reached() {
    let options = ["roofline", "--model", "dummy:tiny", "--context", "40", "--threads", "2"];
    let ended = millrace(options);
    let report = ended.output();
    let facts = rows(report, "# Roofline\n");
    assert!(facts.contains(&vec!["model", "dummy:tiny"]), "{report}");

    let peaks = rows(report, "## Peaks of the machine\n");
    for what in ["clock", "int8", "bf16", "f32", "L2 read", "DRAM read", "parallel region"] {
        let found = peaks.iter().filter(|row| row[0].starts_with(what));
        assert_eq!(found.count(), if what == "clock" || what.ends_with("region") { 1 } else { 2 });
    }
    for row in &peaks {
        assert!(["1", "2"].contains(&row[1]), "{row:?}");
        let is_arithmetic = row[0].contains("GMAC/s");
        for cell in &row[2..] {
            assert!(number(cell).is_some() || is_arithmetic, "{row:?}");
        }
    }
    for row in rows(report, "## Work of the model\n") {
        assert!(number(row[1]).is_some(), "{row:?}");
    }

    let steps = rows(report, "## Ceilings, and what is reached\n");
    let names: Vec<&str> = steps.iter().map(|row| row[0]).collect();
    assert_eq!(
        names,
        [
            "decode, 1 sequence at 40 tokens",
            "decode, 4 sequences at 40 tokens",
            "decode, 16 sequences at 40 tokens",
            "decode, 64 sequences at 40 tokens",
            "prompt of 512 tokens"
        ]
    );
    for row in steps {
        let [_, memory, compute, ceiling, bound, reached, median, share] = row[..] else {
            panic!("{row:?}")
        };
        assert!([memory, reached, median].map(number).iter().all(Option::is_some), "{row:?}");
        let known = number(compute).is_some();
        assert_eq!([ceiling, share].map(|cell| number(cell).is_some()), [known; 2], "{row:?}");
        assert!(if known { ["memory", "compute"].contains(&bound) } else { bound == "-" });
    }
}

#[test]
fn the_plain_tier_has_no_peaks_of_arithmetic_and_so_no_ceiling() {
    let options = ["roofline", "--model", "dummy:tiny", "--context", "1", "--threads", "1"];
    let ended = millrace(options.into_iter().chain(["--isa", "scalar"]));
    let report = ended.output();
    for row in rows(report, "## Ceilings, and what is reached\n") {
        assert_eq!((row[2], row[3], row[4], row[7]), ("-", "-", "-", "-"), "{row:?}");
        assert!(number(row[5]).is_some(), "{row:?}");
    }
}
