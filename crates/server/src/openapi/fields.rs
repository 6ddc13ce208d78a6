//! The names of the fields that a type reads.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The fields of a struct that derives `Deserialize`, without those of `#[serde(flatten)]`.
pub fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let asked = Cell::new(None);
    // It learns the fields and fails, since there are no values.
    let _ = T::deserialize(Asked(&asked));
    let name = std::any::type_name::<T>();
    asked
        .get()
        .unwrap_or_else(|| panic!("{name} derives no `Deserialize` as a struct; name its fields"))
}

/// A source of nothing that notes which fields are asked of it.
struct Asked<'a>(&'a Cell<Option<&'static [&'static str]>>);

#[derive(Debug)]
struct NoValue;

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no value")
    }
}

impl std::error::Error for NoValue {}

impl de::Error for NoValue {
    fn custom<T: fmt::Display>(_: T) -> Self {
        NoValue
    }
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = NoValue;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        self.0.set(Some(fields));
        Err(NoValue)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
