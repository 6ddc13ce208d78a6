use super::*;

fn parse(text: &str) -> Result<Distribution, String> {
    Distribution::parse(text, 1.0..=1000.0).map_err(|error| error.to_string())
}

/// 4,000 whole numbers of `text`.
fn counts(text: &str) -> Vec<u32> {
    let distribution = parse(text).expect("a good example");
    let mut random = Random::new(1, &[2]);
    (0..4000).map(|_| distribution.draw_count(&mut random)).collect()
}

fn mean(values: &[u32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64
}

#[test]
fn what_is_written_is_what_is_drawn() {
    assert!(counts("100").iter().all(|count| *count == 100));
    let uniform = counts("uniform:3..5");
    for value in 3..=5 {
        let share = uniform.iter().filter(|count| **count == value).count() as f64 / 4000.0;
        assert!((share - 1.0 / 3.0).abs() < 0.03, "{value} came in {share} of all");
    }
    let normal = counts("normal:100,20");
    assert!((mean(&normal) - 100.0).abs() < 2.0, "{}", mean(&normal));
    assert!(normal.iter().any(|count| *count < 60) && normal.iter().any(|count| 140 < *count));
    let log_normal = counts("lognormal:100,50");
    assert!((mean(&log_normal) - 100.0).abs() < 4.0, "{}", mean(&log_normal));
    let middle = log_normal.iter().filter(|count| **count < 89).count();
    assert!((1800..2200).contains(&middle), "the median is e^mu = 89.4: {middle}");
}

#[test]
fn bounds_hold_even_where_hardly_anything_lies_between_them() {
    let bounded = counts("normal:100,20,90..110");
    assert!(bounded.iter().all(|count| (90..=110).contains(count)));
    let on_the_bound = bounded.iter().filter(|count| [90, 110].contains(*count)).count();
    assert!(on_the_bound < 400, "they are drawn again, not moved to the bound: {on_the_bound}");
    assert!(counts("normal:100,1,500..600").iter().all(|count| *count == 500));
}

#[test]
fn a_list_is_read_line_by_line() {
    let listed = |text| Distribution::listed(text, 1.0..=1000.0).map_err(|error| error.to_string());
    assert_eq!(listed("3\n\n 9 \n"), Ok(Distribution::Listed { values: vec![3.0, 9.0] }));
    assert_eq!(listed("3\nx\n"), Err("line 2: `x` is no number".to_owned()));
    assert_eq!(listed("3\n\n1001"), Err("line 3: 1001 is not between 1 and 1000".to_owned()));
    assert_eq!(listed(" \n"), Err("the list is empty".to_owned()));
}

#[test]
fn what_cannot_be_drawn_is_refused_with_a_reason() {
    for (text, part) in [
        ("", "no distribution"),
        ("NaN", "no distribution"),
        ("inf", "no distribution"),
        ("zipf:3", "uniform:MIN..MAX"),
        ("uniform:3", "no distribution"),
        ("uniform:9..3", "wrong order"),
        ("uniform:0..3", "0 is not between 1 and 1000"),
        ("normal:5", "no distribution"),
        ("normal:5,1,2", "no distribution"),
        ("normal:5,-1", "does not exist"),
        ("lognormal:0,1", "does not exist"),
        ("1001", "1001 is not between"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_distribution_is_shown_as_it_is_written() {
    for text in ["100", "uniform:3..5", "normal:100,20,1..1000", "lognormal:9.5,2,1..50"] {
        assert_eq!(parse(text).map(|distribution| distribution.to_string()), Ok(text.to_owned()));
    }
    assert_eq!(parse("uniform:7..7").map(|distribution| distribution.constant()), Ok(Some(7.0)));
}
