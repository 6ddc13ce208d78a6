//! Whole numbers of bodies.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A whole number of a body, `256` or `256.0`: JSON has one kind of number, and clients in whose language
/// numbers are floats send the second form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Integer(pub i64);

impl From<Integer> for i64 {
    fn from(Integer(number): Integer) -> i64 {
        number
    }
}

/// Up to here every float is a whole number's only name.
const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;
        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Integer, E> {
                let number = i64::try_from(number)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))?;
                Ok(Integer(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Integer, E> {
                if number.fract() == 0.0 && number.abs() <= FLOAT_MAX {
                    Ok(Integer(number as i64))
                } else {
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }
        }
        deserializer.deserialize_any(IntegerVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written_and_others_are_not() {
        for (text, number) in [
            ("256", 256),
            ("256.0", 256),
            ("2.56e2", 256),
            ("-1.0", -1),
            ("-0.0", 0),
            ("9007199254740992.0", 1 << 53),
            ("-9223372036854775808", i64::MIN),
            ("9223372036854775807", i64::MAX),
        ] {
            let read: Integer =
                serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read, Integer(number), "{text}");
        }
        for text in [
            "256.5",
            "1e300",
            "9007199254740994.0",
            "9223372036854775808",
            "\"256\"",
            "true",
            "[1]",
        ] {
            let error = serde_json::from_str::<Integer>(text).expect_err(text);
            assert!(error.to_string().contains("expected a whole number"), "{text}: {error}");
        }
    }
}
