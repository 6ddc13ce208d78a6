//! What `config.json` says, in the words of GGUF files, so that one place checks it.

use std::f64::consts::PI;

use serde_json::{Map, Value as Json};

use crate::architecture::hub::{HubFamily, NUMBERS};
use crate::architecture::{Positions, WindowLayers};
use crate::config::{ModelConfig, bad, require, vocabulary};
use crate::error::LoadError;
use crate::gguf::{Metadata, Value, ValueKind};

/// What is added before the root of a norm.
const NORM_EPS: &[&str] = &["rms_norm_eps", "layer_norm_epsilon"];

/// What a file of rotary divisors would hold: names of tensors with their numbers.
pub(super) type Divisors = Vec<(&'static str, Vec<f32>)>;

/// The numbers of a model, and the divisors of its rotary frequencies.
pub(super) struct Translated {
    pub(super) metadata: Metadata,
    pub(super) rope_divisors: Divisors,
}

/// The file's settings with the family that they are of.
pub(super) struct Config<'a> {
    pub(super) json: &'a Map<String, Json>,
    pub(super) family: &'static HubFamily,
}

/// Rotary settings: of most layers, and of those with a window.
struct Rope<'a> {
    /// The object that holds them, and how it is called.
    scaling: Option<(&'static str, &'a Map<String, Json>)>,
    theta: Option<f64>,
    window_theta: Option<f64>,
    share: Option<f64>,
}

impl<'a> Config<'a> {
    /// Finds the family.
    pub(super) fn new(json: &'a Map<String, Json>) -> Result<Config<'a>, LoadError> {
        let key = "model_type";
        let found = require(json.get(key).filter(|value| !value.is_null()), key)?;
        let family = found
            .as_str()
            .and_then(HubFamily::of_type)
            .ok_or_else(|| bad(key, shown(found), format!("one of {}", HubFamily::types())))?;
        Ok(Config { json, family })
    }

    /// The number of token ids, which lists may be made for.
    pub(super) fn vocabulary(&self) -> Result<u32, LoadError> {
        let key = "vocab_size";
        vocabulary(key, require(self.number(key)?, key)?)
    }

    /// Refuses what would change the sums and is not computed, and gives the numbers.
    pub(super) fn translate(&self) -> Result<Translated, LoadError> {
        self.check_fixed()?;
        let mut metadata = Metadata::default();
        let mut put = |part: &str, called: &str, value: Option<Value>| {
            metadata.insert(self.family.architecture.key(part), called, value);
        };
        for &(part, names) in NUMBERS {
            let (name, value) = self.find(names).unwrap_or((names[0], &Json::Null));
            put(part, name, integer(name, value)?);
        }
        let architecture = self.family.architecture;
        let (name, value) = self.find(NORM_EPS).unwrap_or((NORM_EPS[0], &Json::Null));
        put(architecture.norm_eps_key(), name, float(name, value)?.map(of_float));
        put("attention.sliding_window", "sliding_window", self.window()?);
        if self.json.contains_key("n_embd") && self.find(&["n_inner"]).is_none() {
            // GPT-2's files leave it out.
            let width = self.number("n_embd")?.unwrap_or(0).saturating_mul(4);
            put("feed_forward_length", "4 x n_embd", Some(of_integer(width)));
        }
        let mut rope_divisors = Divisors::new();
        if matches!(architecture.positions, Positions::Rotary(_)) {
            let rope = self.rope()?;
            let theta = rope.theta.unwrap_or(f64::from(self.family.rope_theta));
            put("rope.freq_base", "rope_theta", Some(of_float(theta)));
            put("rope.dimension_count", "partial_rotary_factor", self.rotated(rope.share)?);
            let dims = self.head_dim()?;
            let mut scaled = |part: &str, called: &str, value| put(part, called, Some(value));
            rope_divisors = self.scaling(&rope, (theta, dims), &mut scaled)?;
        }
        Ok(Translated { metadata, rope_divisors })
    }

    /// Puts what only folders say into a checked configuration.
    pub(super) fn complete(&self, config: &mut ModelConfig) -> Result<(), LoadError> {
        let window_theta = match self.rope()?.window_theta {
            Some(theta) if !(1.0..=1e12).contains(&theta) => {
                return Err(bad(
                    "the rotary base of layers with a window",
                    theta,
                    "1 to 1e12".into(),
                ));
            }
            theta => theta,
        };
        if let Some(rope) = &mut config.rope {
            // The rows are not in the order that GGUF's converter puts those of some families in.
            rope.pairing = kernels::rope::Pairing::Halves;
            rope.window_theta =
                rope.window_theta.map(|usual| window_theta.map_or(usual, |t| t as f32));
        }
        let key = "query_pre_attn_scalar";
        if let Some(scalar) = float(key, self.json.get(key).unwrap_or(&Json::Null))? {
            if !(1e-3..=1e6).contains(&scalar) {
                return Err(bad(key, scalar, "0.001 to 1e6".to_string()));
            }
            config.attention_scale = 1.0 / (scalar as f32).sqrt();
        }
        self.check_layer_types(config)
    }

    /// Whether the embedding is the head.
    pub(super) fn tied_head(&self) -> Result<bool, LoadError> {
        Ok(self.flag("tie_word_embeddings")?.unwrap_or(self.family.tied_head))
    }

    fn check_fixed(&self) -> Result<(), LoadError> {
        let encoder = ("is_encoder_decoder", "false", &["false"][..]);
        for &(key, usual, allowed) in self.family.fixed.iter().chain([&encoder]) {
            let found = match self.json.get(key) {
                None | Some(Json::Null) => usual.to_string(),
                Some(value) => shown(value),
            };
            if !allowed.contains(&found.as_str()) {
                return Err(LoadError::BadValue {
                    key: key.to_string(),
                    value: found,
                    limit: format!("{}: nothing else is computed", allowed.join(" or ")),
                });
            }
        }
        Ok(())
    }

    /// The first of these that is there, with its name.
    fn find(&self, names: &'static [&'static str]) -> Option<(&'static str, &'a Json)> {
        names.iter().find_map(|&name| {
            self.json.get(name).filter(|value| !value.is_null()).map(|value| (name, value))
        })
    }

    fn number(&self, key: &str) -> Result<Option<u64>, LoadError> {
        match self.json.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| wrong(key, value, "a whole number"))
            }
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        flag(self.json, key)
    }

    /// Elements of a head, as far as they can be told; what does not fit is refused elsewhere.
    fn head_dim(&self) -> Result<u64, LoadError> {
        if let Some(given) = self.number("head_dim")? {
            return Ok(given);
        }
        let width = self.number("hidden_size")?.unwrap_or(0);
        Ok(width / self.number("num_attention_heads")?.unwrap_or(1).max(1))
    }

    /// Tokens that layers with a window see.
    fn window(&self) -> Result<Option<Value>, LoadError> {
        let key = "sliding_window";
        let is_off = self.flag("use_sliding_window")? == Some(false);
        let window = self.number(key)?.filter(|_| !is_off);
        if self.family.architecture.window != WindowLayers::None {
            return Ok(window.map(of_integer));
        }
        match (window, self.flag("use_sliding_window")?) {
            (Some(window), Some(true)) => {
                let limit = "use_sliding_window false: windows of this family are not computed";
                Err(bad(key, window, limit.to_string()))
            }
            _ => Ok(None),
        }
    }

    /// Refuses a file whose layers see something else than they would here.
    fn check_layer_types(&self, config: &ModelConfig) -> Result<(), LoadError> {
        let key = "layer_types";
        let Some((_, value)) = self.find(&["layer_types"]) else { return Ok(()) };
        let types = value.as_array().ok_or_else(|| wrong(key, value, "a list"))?;
        if types.len() != config.layer_count {
            let limit = format!("{}, the number of layers", config.layer_count);
            return Err(bad(key, format!("a list of {}", types.len()), limit));
        }
        for (layer, found) in types.iter().enumerate() {
            let expected = match config.window_of(layer) {
                Some(_) => "sliding_attention",
                None => "full_attention",
            };
            if found != expected {
                let found = format!("{} for layer {layer}", shown(found));
                return Err(bad(key, found, format!("`{expected}`: nothing else is computed")));
            }
        }
        Ok(())
    }

    fn rope(&self) -> Result<Rope<'a>, LoadError> {
        let object = |key: &'static str| match self.json.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(object)) => Ok(Some((key, object))),
            Some(other) => Err(wrong(key, other, "an object")),
        };
        let (key, older) = ("rope_scaling", object("rope_scaling")?);
        let newer = object("rope_parameters")?;
        if let (Some((_, newer)), Some((_, older))) = (newer, older)
            && newer != older
        {
            // The library would take the older one alone, and forget the base that stands in the newer one.
            let limit = "none beside rope_parameters: put it in there".to_string();
            return Err(bad(key, shown(&Json::Object(older.clone())), limit));
        }
        let outer = newer.or(older);
        let part = |name: &str| outer.and_then(|(_, outer)| outer.get(name)?.as_object());
        let scaling = match part("full_attention") {
            Some(full) => Some(("rope_parameters.full_attention", full)),
            None => outer,
        };
        let inner = |key: &str| scaling.and_then(|(_, object)| object.get(key));
        let given = |key: &str, from: Option<&Json>| float(key, from.unwrap_or(&Json::Null));
        let windowed = part("sliding_attention");
        if let Some(kind) = windowed.and_then(|object| object.get("rope_type"))
            && kind != "default"
        {
            let key = "rope_parameters.sliding_attention.rope_type";
            return Err(bad(key, shown(kind), "`default`".to_string()));
        }
        let theta = "rope_theta";
        Ok(Rope {
            scaling,
            theta: given(theta, inner(theta).or_else(|| self.json.get(theta)))?,
            window_theta: given(
                "rope_local_base_freq",
                (windowed.and_then(|object| object.get(theta)))
                    .or_else(|| self.json.get("rope_local_base_freq")),
            )?,
            share: given(
                "partial_rotary_factor",
                inner("partial_rotary_factor").or_else(|| self.json.get("partial_rotary_factor")),
            )?,
        })
    }

    /// Numbers of a head that are rotated, if not all.
    fn rotated(&self, share: Option<f64>) -> Result<Option<Value>, LoadError> {
        let Some(share) = share else { return Ok(None) };
        if !(0.0 < share && share <= 1.0) {
            return Err(bad("partial_rotary_factor", share, "above 0, at most 1".to_string()));
        }
        Ok(Some(of_integer((self.head_dim()? as f64 * share) as u64)))
    }

    /// Puts the scaling of rotary frequencies, or gives the divisors that say the same.
    fn scaling(
        &self,
        rope: &Rope<'_>,
        (theta, dims): (f64, u64),
        put: &mut dyn FnMut(&str, &str, Value),
    ) -> Result<Divisors, LoadError> {
        let Some((object, scaling)) = rope.scaling else { return Ok(Divisors::new()) };
        let called = |key: &str| format!("{object}.{key}");
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
        let kind = kind.unwrap_or(&Json::Null);
        let number = |key: &str| float(&called(key), scaling.get(key).unwrap_or(&Json::Null));
        let need =
            |key: &str| number(key)?.ok_or_else(|| LoadError::MissingKey { key: called(key) });
        match kind.as_str() {
            Some("default") => return Ok(Divisors::new()),
            None if kind.is_null() => return Ok(Divisors::new()),
            Some("llama3") => {
                let divisors = llama3_divisors(&called, need, (theta, dims))?;
                return Ok(vec![("rope_freqs.weight", divisors)]);
            }
            Some("longrope") => return self.long_rope((object, scaling), put),
            Some("linear") => {}
            Some("yarn") => {
                for (key, usual) in [("beta_fast", 32.0), ("beta_slow", 1.0)] {
                    if let Some(found) = number(key)?.filter(|&found| found != usual) {
                        return Err(bad(&called(key), found, format!("{usual}")));
                    }
                }
                for key in ["mscale", "mscale_all_dim", "truncate"] {
                    if let Some(found) =
                        scaling.get(key).filter(|found| **found != Json::Bool(true))
                    {
                        return Err(bad(
                            &called(key),
                            shown(found),
                            "none: it is not computed".into(),
                        ));
                    }
                }
                let key = "original_max_position_embeddings";
                let context = match integer(&called(key), scaling.get(key).unwrap_or(&Json::Null))?
                {
                    Some(context) => context,
                    None => of_integer(self.number("max_position_embeddings")?.unwrap_or(0)),
                };
                put("rope.scaling.original_context_length", &called(key), context);
                if let Some(attention) = number("attention_factor")? {
                    let usual = 0.1 * need("factor")?.max(1.0).ln() + 1.0;
                    put(
                        "rope.scaling.attn_factor",
                        &called("attention_factor"),
                        of_float(attention / usual),
                    );
                }
            }
            _ => {
                let limit = "`default`, `linear`, `yarn`, `longrope` or `llama3`".to_string();
                return Err(bad(&called("rope_type"), shown(kind), limit));
            }
        }
        let name = kind.as_str().expect("it was matched").to_string();
        put("rope.scaling.type", &called("rope_type"), Value::Text(name));
        put("rope.scaling.factor", &called("factor"), of_float(need("factor")?));
        Ok(Divisors::new())
    }

    /// LongRoPE: the two lists, and what queries and keys are multiplied with, which follows from the contexts
    /// unless it is given. Source: `_compute_longrope_parameters` of the transformers library.
    fn long_rope(
        &self,
        (object, scaling): (&str, &Map<String, Json>),
        put: &mut dyn FnMut(&str, &str, Value),
    ) -> Result<Divisors, LoadError> {
        let called = |key: &str| format!("{object}.{key}");
        let number = |key: &str| float(&called(key), scaling.get(key).unwrap_or(&Json::Null));
        let key = "original_max_position_embeddings";
        let context = scaling.get(key).or_else(|| self.json.get(key)).unwrap_or(&Json::Null);
        let context = context.as_u64().ok_or_else(|| wrong(key, context, "a whole number"))?;
        put("rope.scaling.original_context_length", key, of_integer(context));
        let longest = self.number("max_position_embeddings")?.unwrap_or(context);
        let factor = number("factor")?.unwrap_or(longest as f64 / context as f64);
        let usual = (1.0 + factor.max(1.0).ln() / (context as f64).ln()).sqrt();
        let attention = number("attention_factor")?.unwrap_or(usual);
        put("rope.scaling.attn_factor", &called("attention_factor"), of_float(attention));
        put("rope.scaling.type", &called("rope_type"), Value::Text("longrope".to_string()));
        let list = |key: &str| -> Result<Vec<f32>, LoadError> {
            let found = scaling.get(key).unwrap_or(&Json::Null);
            let number = |x: &Json| Some(x.as_f64()? as f32);
            let numbers: Option<_> =
                found.as_array().and_then(|list| list.iter().map(number).collect());
            numbers.ok_or_else(|| wrong(&called(key), found, "a list of numbers"))
        };
        Ok(vec![
            ("rope_factors_short.weight", list("short_factor")?),
            ("rope_factors_long.weight", list("long_factor")?),
        ])
    }
}

/// Llama 3.1's scaling: frequencies that turn fast within the context of the training stay, slow
/// ones are divided by the factor, and those between go over smoothly. Source: `rope_utils` of the
/// transformers library.
fn llama3_divisors(
    called: &dyn Fn(&str) -> String,
    need: impl Fn(&str) -> Result<f64, LoadError>,
    (theta, dims): (f64, u64),
) -> Result<Vec<f32>, LoadError> {
    let within = |key: &str, low: f64, high: f64| match need(key)? {
        found if (low..=high).contains(&found) => Ok(found),
        found => Err(bad(&called(key), found, format!("{low} to {high:e}"))),
    };
    let factor = within("factor", 1.0, 1e4)?;
    let slow = within("low_freq_factor", 1e-3, 1e4)?;
    let fast = within("high_freq_factor", 1e-3, 1e4)?;
    let context = within("original_max_position_embeddings", 1.0, 1e8)?;
    if fast <= slow {
        return Err(bad(
            &called("high_freq_factor"),
            fast,
            format!("above low_freq_factor, {slow}"),
        ));
    }
    // The size of a head is checked with the other numbers.
    let pairs = dims.min(1 << 16) / 2;
    let divisor = |pair: u64| {
        let turns = context / (2.0 * PI * theta.powf(2.0 * pair as f64 / dims as f64));
        let smooth = ((turns - slow) / (fast - slow)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    Ok((0..pairs).map(divisor).collect())
}

fn of_integer(value: u64) -> Value {
    Value::Integer(ValueKind::U64, value.into())
}

fn of_float(value: f64) -> Value {
    Value::Float(ValueKind::F64, value)
}

fn integer(key: &str, value: &Json) -> Result<Option<Value>, LoadError> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from));
    let number = number.ok_or_else(|| wrong(key, value, "a whole number"))?;
    Ok(Some(Value::Integer(ValueKind::I64, number)))
}

fn float(key: &str, value: &Json) -> Result<Option<f64>, LoadError> {
    if value.is_null() {
        return Ok(None);
    }
    value.as_f64().map(Some).ok_or_else(|| wrong(key, value, "a number"))
}

/// A setting that is on, off, or not there.
pub(super) fn flag(settings: &Map<String, Json>, key: &str) -> Result<Option<bool>, LoadError> {
    match settings.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(wrong(key, other, "true or false")),
    }
}

fn wrong(key: &str, value: &Json, expected: &'static str) -> LoadError {
    LoadError::WrongKind { key: key.to_string(), found: shown(value), expected }
}

/// A value for a message, shortened.
pub(super) fn shown(value: &Json) -> String {
    let text = value.to_string();
    if text.chars().nth(80).is_none() {
        return text;
    }
    text.chars().take(80).chain(['…']).collect()
}
