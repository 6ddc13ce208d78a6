//! What lists and maps within each other are worth.
//!
//! minijinja counts fuel for what it makes, and a list of two lists is little. But sixty of them within
//! each other, each twice the one before, take more time and memory to write or to compare than there
//! is. So every literal pays for all that it holds, again and again where that is the same, and so does
//! what is written.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, Output, State, escape_formatter};

/// Method that gives its value back once it is paid for.
pub(super) const WEIGHED: &str = "weighed";

/// Values, and bytes of text, for one step.
const VALUES_PER_FUEL: u64 = 4;
const BYTES_PER_FUEL: u64 = 64;

/// Makes what is written pay, and takes away what repeats values without being a literal.
pub(super) fn limit(environment: &mut Environment<'_>) {
    environment.set_formatter(|out: &mut Output, state: &mut State, value: &Value| {
        weigh(state, value)?;
        escape_formatter(out, state, value)
    });
    for filter in ["batch", "slice", "zip"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("dict");
}

/// Pays for `value` and everything in it.
pub(super) fn weigh(state: &State, value: &Value) -> Result<(), Error> {
    let mut open = vec![value.clone()];
    let mut values = 0_u64;
    // In small parts, so that the walk ends when the fuel does.
    let mut pay = || {
        values += 1;
        state.consume_fuel(u64::from(values.is_multiple_of(VALUES_PER_FUEL)))
    };
    while let Some(value) = open.pop() {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    pay()?;
                    open.push(item);
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    pay()?;
                    open.push(value.get_item(&key)?);
                    open.push(key);
                }
            }
            ValueKind::String => {
                state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / BYTES_PER_FUEL)?;
            }
            _ => {}
        }
    }
    Ok(())
}
