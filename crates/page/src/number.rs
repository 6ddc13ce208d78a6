//! Numbers as text, in the form of the report: two decimals, no thousands separators. No line
//! breaks between a number and its unit.

/// `147.73 ms`, from a second on `15.39 s`.
pub(crate) fn duration(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.2}\u{a0}ms") } else { format!("{:.2}\u{a0}s", ms / 1000.0) }
}

/// `14 %` of a share from 0 to 1; what is not nothing is never `0 %` but `<1 %`, what is not all
/// never `100 %` but `>99 %`.
pub(crate) fn percent(share: f64) -> String {
    match 100.0 * share {
        none if none <= 0.0 => "0\u{a0}%".to_owned(),
        low if low < 0.5 => "<1\u{a0}%".to_owned(),
        some if some < 99.5 => format!("{some:.0}\u{a0}%"),
        high if high < 100.0 => ">99\u{a0}%".to_owned(),
        all => format!("{all:.0}\u{a0}%"),
    }
}

/// The shortest text of a value on an axis: `0.5`, `20`, `1000`.
pub(crate) fn tick(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A tick of an axis of milliseconds: `20 ms`, `1 s`.
pub(crate) fn tick_duration(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{}\u{a0}ms", tick(ms))
    } else {
        format!("{}\u{a0}s", tick(ms / 1000.0))
    }
}

/// A coordinate, with one decimal at most.
pub(crate) fn coordinate(value: f64) -> String {
    let tenths = (10.0 * value).round() as i64;
    let sign = if tenths < 0 { "-" } else { "" };
    match (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

/// `1 user`, `64 users`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_change_their_unit_at_a_second() {
        assert_eq!(duration(147.734), "147.73\u{a0}ms");
        assert_eq!(duration(15_390.4), "15.39\u{a0}s");
        assert_eq!(tick_duration(0.5), "0.5\u{a0}ms");
        assert_eq!(tick_duration(20_000.0), "20\u{a0}s");
    }

    #[test]
    fn shares_are_not_rounded_to_nothing_or_all() {
        let shares = [0.0, 0.001, 0.28, 0.999, 1.0].map(percent);
        assert_eq!(shares, ["0\u{a0}%", "<1\u{a0}%", "28\u{a0}%", ">99\u{a0}%", "100\u{a0}%"]);
    }

    #[test]
    fn coordinates_are_short_and_keep_their_sign() {
        assert_eq!([12.0, 12.34, -0.5, -0.01].map(coordinate), ["12", "12.3", "-0.5", "0"]);
    }
}
