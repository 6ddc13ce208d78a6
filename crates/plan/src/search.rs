//! The most of something that is still good enough.

/// The last of `rungs` rungs of a ladder, counted from 0, at which `holds` is true, if it is true up
/// to some rung and false from there on. `None` if it is false at the first.
///
/// Climbs in steps that double until one fails, then halves what lies between: at most
/// 2 · log2(rungs) + 2 trials, none of a rung that is more than twice as high as one that held.
///
/// # Errors
/// The first that `holds` gives.
pub fn last_that_holds<E>(
    rungs: u32,
    mut holds: impl FnMut(u32) -> Result<bool, E>,
) -> Result<Option<u32>, E> {
    let (mut good, mut bad) = (None, rungs);
    while let Some(rung) = next_higher(good, bad) {
        if holds(rung)? {
            good = Some(rung);
        } else {
            bad = rung;
            break;
        }
    }
    let Some(mut good) = good else { return Ok(None) };
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        match holds(middle)? {
            true => good = middle,
            false => bad = middle,
        }
    }
    Ok(Some(good))
}

/// Twice as high as the last that held, but within the ladder; `None` at its end.
fn next_higher(good: Option<u32>, rungs: u32) -> Option<u32> {
    let top = rungs.checked_sub(1)?;
    match good {
        None => Some(0),
        Some(good) if good == top => None,
        Some(good) => Some((2 * good + 1).min(top)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result on a ladder that holds up to `limit`, and the rungs that were tried.
    fn search(rungs: u32, limit: u32) -> (Option<u32>, Vec<u32>) {
        let mut tried = Vec::new();
        let found = last_that_holds(rungs, |rung| {
            tried.push(rung);
            Ok::<_, ()>(rung < limit)
        });
        (found.expect("nothing fails"), tried)
    }

    #[test]
    fn the_last_rung_that_holds_is_found_on_every_ladder() {
        for rungs in 0..70 {
            for limit in 0..rungs + 2 {
                let (found, tried) = search(rungs, limit);
                assert_eq!(found, rungs.min(limit).checked_sub(1), "{rungs} {limit}: {tried:?}");
                let mut different = tried.clone();
                different.sort_unstable();
                different.dedup();
                assert_eq!(different.len(), tried.len(), "a rung is tried twice: {tried:?}");
            }
        }
    }

    #[test]
    fn no_rung_is_tried_that_is_far_above() {
        let (_, tried) = search(1 << 20, 100);
        assert!(tried.iter().all(|rung| *rung <= 200), "{tried:?}");
        assert!(tried.len() <= 16, "{tried:?}");
    }

    #[test]
    fn an_error_ends_the_search() {
        assert_eq!(last_that_holds(9, |rung| if rung < 2 { Ok(true) } else { Err(rung) }), Err(3));
    }
}
