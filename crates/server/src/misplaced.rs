//! Fields of chats in bodies of another form, where they have no place.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Value;

use crate::openai::error::ApiError;
use crate::openai::types::{GenerationBody, parse};
use crate::openai::unsupported::{UNSUPPORTED, is_empty, is_one};
use crate::origins::{Fields, theirs};

/// Reads a body of another form than a chat's, in which `fields` of chats have other names. Fields that
/// would change the answer of a chat and that it does not read are refused by name, as a chat does.
pub fn read<T: DeserializeOwned>(body: &[u8], fields: &Fields) -> Result<T, ApiError> {
    let Body { body, misplaced } = parse(body)?;
    match misplaced.iter().find(|(name, value)| !asks_for_nothing(name, value)) {
        None => Ok(body),
        Some((name, _)) => {
            let instead = match theirs(name, fields) {
                Some(theirs) => format!("send `{theirs}`"),
                None => "leave it out".to_owned(),
            };
            Err(ApiError::invalid(*name, format!("`{name}` is not supported here; {instead}")))
        }
    }
}

/// Whether the answer is the same with `value` in the chat's field `name` as without the field.
fn asks_for_nothing(name: &str, value: &Value) -> bool {
    if let Some((_, asks_for_nothing)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        return asks_for_nothing(value);
    }
    match name {
        // It is about the form of a stream, which is another one here.
        "stream_options" => true,
        "n" | "repetition_penalty" | "repeat_penalty" => is_one(value),
        "top_k" => is_empty(value) || value == &Value::from(-1),
        "n_predict" => value.is_null() || value == &Value::from(-1),
        "include_reasoning" | "add_generation_prompt" | "skip_special_tokens" => {
            value.is_null() || value == &Value::Bool(true)
        }
        // 0 says something.
        "seed" | "max_tokens" | "max_completion_tokens" | "prompt_logprobs" => value.is_null(),
        _ => is_empty(value),
    }
}

/// A body, and what came in fields of chats that it does not read.
struct Body<T> {
    body: T,
    misplaced: Vec<(&'static str, Value)>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Body<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for BodyVisitor<T> {
            type Value = Body<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Body<T>, A::Error> {
                let mut misplaced = Vec::new();
                let body = T::deserialize(Whole { map, misplaced: &mut misplaced })?;
                Ok(Body { body, misplaced })
            }
        }
        deserializer.deserialize_map(BodyVisitor(PhantomData))
    }
}

/// The whole object, for a struct that says which fields it reads.
struct Whole<'a, A> {
    map: A,
    misplaced: &'a mut Vec<(&'static str, Value)>,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Whole<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("a body is a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        own: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let Whole { map, misplaced } = self;
        visitor.visit_map(Rest { map, own, misplaced })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The object without the fields that are misplaced.
struct Rest<'a, A> {
    map: A,
    own: &'static [&'static str],
    misplaced: &'a mut Vec<(&'static str, Value)>,
}

impl<A> Rest<'_, A> {
    /// The chat's field `key`, if the body does not read it.
    fn misplaced(&self, key: &str) -> Option<&'static str> {
        chat_fields().find(|name| *name == key && !self.own.contains(name))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            match self.misplaced(&key) {
                Some(name) => self.misplaced.push((name, self.map.next_value()?)),
                None => return seed.deserialize(key.into_deserializer()).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Every field that a chat or a completion reads or refuses.
fn chat_fields() -> impl Iterator<Item = &'static str> {
    GenerationBody::FIELDS.iter().copied().chain(UNSUPPORTED.iter().map(|(name, _)| *name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Own {
        temperature: Option<f64>,
        cache_salt: Option<String>,
        stop_sequences: Vec<String>,
    }

    const FIELDS: &Fields = &[("stop", "stop_sequences")];

    fn own(body: &Value) -> Result<Own, ApiError> {
        read(body.to_string().as_bytes(), FIELDS)
    }

    #[test]
    fn each_field_of_chats_is_read_or_refused_by_its_name() {
        for name in chat_fields() {
            let body = json!({"temperature": 0.5, "cache_salt": "a", name: {"a": ["b"]}});
            match (name, own(&body)) {
                ("stream_options", read) => assert!(read.is_ok()),
                (_, Err(error)) => {
                    assert_eq!(error.told().param.as_deref(), Some(name), "{error}");
                }
                (name, Ok(_)) => panic!("{name} was dropped"),
            }
            let body = json!({"temperature": 0.5, "stop_sequences": ["a"], name: null});
            let read = own(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(read.stop_sequences, ["a"]);
            assert_eq!(read.temperature, (name != "temperature").then_some(0.5));
        }
    }

    #[test]
    fn values_that_change_nothing_pass_and_a_refusal_says_what_to_send() {
        let nothing = json!({
            "n": 1, "repetition_penalty": 1.0, "repeat_penalty": 1, "top_k": -1, "n_predict": -1,
            "include_reasoning": true, "skip_special_tokens": true, "logit_bias": {}, "stop": [], "best_of": 1,
            "min_p": 0, "unknown": {"seed": 1}, "metadata": {"stop": "a"},
        });
        own(&nothing).expect("nothing is asked for");
        for (name, value, message) in [
            ("stop", json!(["a"]), "`stop` is not supported here; send `stop_sequences`"),
            ("seed", json!(0), "`seed` is not supported here; leave it out"),
            ("n", json!(2), "`n` is not supported here; leave it out"),
        ] {
            let error = own(&json!({ name: value })).expect_err(name);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn errors_still_name_the_field_and_fields_come_once() {
        let error = own(&json!({"stop_sequences": ["a", 5]})).expect_err("a number");
        assert_eq!(error.told().param.as_deref(), Some("stop_sequences[1]"));
        let twice = br#"{"temperature": 1, "n": 1, "temperature": 1}"#;
        read::<Own>(twice, FIELDS).expect_err("twice");
        for body in ["[]", "[0.5]", "5", "null"] {
            read::<Own>(body.as_bytes(), FIELDS).expect_err(body);
        }
    }
}
