//! What a run asked of which server: kept in run.json, so that it can be continued and compared.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use workload::lengths::{LengthLaws, Sampling};
use workload::slo::Slo;

use crate::config::{BenchConfig, RequestForm};
use crate::dataset::DatasetName;
use crate::loads::Loads;
use crate::probe::ServerFacts;

/// What a run asked of which server. Everything that decides its figures is here; keys are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// What measured.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// What was measured.
    pub server: ServerFacts,
    /// How the server was to be loaded.
    pub loads: Loads,
    /// Lengths of prompts and answers, as asked for.
    pub lengths: LengthLaws,
    /// The file that prompts were taken from, if they were not written for the run.
    #[serde(default)]
    pub dataset: Option<DatasetName>,
    /// What requests looked like, header fields aside, which may be secret.
    pub form: RequestForm,
    /// Whether prompts were cut to length with the server's own tokenizer.
    pub exact_prompts: bool,
    /// How tokens were drawn.
    pub sampling: Sampling,
    /// Seed of prompts, lengths and times.
    pub seed: u64,
    /// What was expected of each request, if anything.
    pub slo: Option<Slo>,
}

/// A field in which two setups differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name, like `server.model`.
    pub field: String,
    /// What the first has, as JSON.
    pub a: String,
    /// What the second has.
    pub b: String,
}

impl Setup {
    /// What `config` asks of `server`.
    pub(crate) fn of(config: &BenchConfig, server: ServerFacts, exact_prompts: bool) -> Setup {
        Setup {
            tool: "millrace bench".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server,
            loads: config.loads.clone(),
            lengths: config.lengths.clone(),
            dataset: config.dataset.as_ref().map(|dataset| dataset.name.clone()),
            form: config.form.clone(),
            exact_prompts,
            sampling: config.sampling,
            seed: config.seed,
            slo: config.slo,
        }
    }

    /// Every field in which `other` is different, in the order of their names.
    pub(crate) fn differences(&self, other: &Setup) -> Vec<Difference> {
        let value = |setup: &Setup| serde_json::to_value(setup).expect("plain data with text keys");
        let mut found = Vec::new();
        compare("", &value(self), &value(other), &mut found);
        // Whether JSON objects are sorted is decided by whoever else uses the library.
        found.sort_by(|a, b| a.field.cmp(&b.field));
        found
    }

    /// The first field that keeps a run of `self` from being continued as `other`.
    ///
    /// A server that tells who it is may have moved to another address; of one that does not, the
    /// address is all that is known.
    pub(crate) fn obstacle(&self, other: &Setup) -> Option<Difference> {
        let may_move = self.server.info.is_some() && other.server.info.is_some();
        let differences = self.differences(other).into_iter();
        differences.into_iter().find(|found| !(may_move && found.field == "server.url"))
    }
}

/// Adds to `found` where `a` and `b` differ; objects are compared field by field.
fn compare(path: &str, a: &Value, b: &Value, found: &mut Vec<Difference>) {
    match (a, b) {
        (Value::Object(fields_a), Value::Object(fields_b)) => {
            let only_b = fields_b.keys().filter(|key| !fields_a.contains_key(*key));
            for key in fields_a.keys().chain(only_b) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let field = |fields: &serde_json::Map<String, Value>| {
                    fields.get(key).cloned().unwrap_or(Value::Null)
                };
                compare(&path, &field(fields_a), &field(fields_b), found);
            }
        }
        _ if a != b => {
            found.push(Difference { field: path.to_owned(), a: a.to_string(), b: b.to_string() });
        }
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use workload::distribution::Distribution;
    use workload::lengths::Lengths;

    use super::*;

    pub(crate) fn setup() -> Setup {
        let server = r#"{"url":"http://127.0.0.1:1","model":"m","owned_by":null,"has_gauges":true,
            "info":{"device":"d","max_num_seqs":50}}"#;
        Setup {
            tool: "millrace bench".to_owned(),
            version: "0.1.0".to_owned(),
            server: serde_json::from_str(server).expect("a good example"),
            loads: Loads::Closed {
                levels: vec![1, 4],
                requests_per_user: 5,
                think_time_s: Distribution::fixed(0.0),
            },
            lengths: Lengths { prompt_tokens: 100, output_tokens: 128 }.into(),
            dataset: None,
            form: RequestForm::default(),
            exact_prompts: true,
            sampling: Sampling::GREEDY,
            seed: 0,
            slo: None,
        }
    }

    #[test]
    fn differences_name_the_field_and_both_values() {
        let mut other = setup();
        assert_eq!(setup().differences(&other), []);
        other.loads = Loads::Closed {
            levels: vec![1, 4, 8],
            requests_per_user: 5,
            think_time_s: Distribution::fixed(0.0),
        };
        other.sampling.temperature = 1.0;
        other.server.info = None;
        let found = setup().differences(&other);
        let found: Vec<[&str; 3]> =
            found.iter().map(|found| [&*found.field, &*found.a, &*found.b]).collect();
        assert_eq!(found[0], ["loads.levels", "[1,4]", "[1,4,8]"]);
        assert_eq!(found[1], ["sampling.temperature", "0.0", "1.0"]);
        assert_eq!((found[2][0], found[2][2]), ("server.info", "null"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn only_a_server_that_tells_who_it_is_may_move() {
        let mut moved = setup();
        moved.server.url = "http://127.0.0.1:2".to_owned();
        assert_eq!(setup().obstacle(&moved), None);
        let mut silent = setup();
        silent.server.info = None;
        moved.server.info = None;
        let obstacle = silent.obstacle(&moved).expect("it may be another server");
        assert_eq!(obstacle.field, "server.url");
    }

    #[test]
    fn a_setup_is_read_back_as_it_was_written() {
        let text = serde_json::to_string(&setup()).expect("plain data");
        assert_eq!(serde_json::from_str::<Setup>(&text).expect("the same"), setup());
    }
}
