use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::DOCUMENT;
use super::fields::fields_of;
use crate::anthropic::{self, Block, MessagesBody, Turn};
use crate::openai::embeddings::EmbeddingBody;
use crate::openai::tools::{NamedTool, ToolBody, ToolCallBody};
use crate::openai::types::{ChatMessage, GenerationBody, Part, StreamOptions};
use crate::openai::unsupported::UNSUPPORTED;
use crate::responses::{self, InputItem, ResponsesBody, TextFormat};
use crate::routes::OPEN_PATHS;
use crate::tokenize::{DetokenizeBody, TokenizeBody};

/// What bodies read: schemas of the document, which together name the fields of one type.
fn bodies() -> Vec<(&'static [&'static str], &'static [&'static str])> {
    vec![
        (&["CompletionRequest", "ChatCompletionRequest"], GenerationBody::FIELDS),
        (&["StreamOptions"], fields_of::<StreamOptions>()),
        (&["Message"], fields_of::<ChatMessage>()),
        (&["TextPart"], fields_of::<Part>()),
        (&["EmbeddingRequest"], fields_of::<EmbeddingBody>()),
        (&["Tool"], fields_of::<ToolBody>()),
        (&["NamedTool"], fields_of::<NamedTool>()),
        (&["EarlierCall"], fields_of::<ToolCallBody>()),
        (&["MessagesRequest"], fields_of::<MessagesBody>()),
        (&["Turn"], fields_of::<Turn>()),
        (&["MessagesBlock"], fields_of::<Block>()),
        (&["MessagesTool"], fields_of::<anthropic::ToolBody>()),
        (&["ResponsesRequest"], fields_of::<ResponsesBody>()),
        (&["InputItem"], fields_of::<InputItem>()),
        (&["ResponsesTool"], fields_of::<responses::ToolBody>()),
        (&["TextFormat"], fields_of::<TextFormat>()),
        (&["TokenizeRequest"], fields_of::<TokenizeBody>()),
        (&["DetokenizeRequest"], fields_of::<DetokenizeBody>()),
    ]
}

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

/// Methods by path, as the document has them.
fn described(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |path: &Value| {
        let names = path.as_object().expect("methods").keys();
        names.filter(|name| *name != "parameters").cloned().collect()
    };
    paths.iter().map(|(path, operations)| (path.clone(), methods(operations))).collect()
}

/// Every source file of the crate that is not one of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The text up to the parenthesis that closes what is open at its beginning.
fn up_to_close(text: &str) -> &str {
    let mut depth = 1;
    let close = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth == 0
    });
    &text[..close.expect("parentheses are closed").0]
}

/// Methods by path, as the sources give them to the router.
fn routed() -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable source");
        let text = text.split("#[cfg(test)]\nmod tests {").next().expect("a text has a beginning");
        for route in text.split(".route(").skip(1) {
            let Some(route) = up_to_close(route).trim_start().strip_prefix('"') else { continue };
            let (path, handlers) = route.split_once('"').expect("a string ends");
            let words = handlers.split(|c: char| !c.is_ascii_alphanumeric() && c != '(');
            let methods = words
                .filter_map(|word| word.strip_suffix('(').or(word.split_once('(').map(|w| w.0)));
            let known = ["get", "post", "put", "delete", "patch"];
            let methods = methods.filter(|word| known.contains(word)).map(str::to_owned);
            // A path's last part that may hold slashes.
            routes.entry(path.replace("{*", "{")).or_default().extend(methods);
        }
    }
    routes
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let (described, routed) = (described(&document()), routed());
    assert!(routed.len() > 10, "the routes were not found in the sources: {routed:?}");
    for (path, methods) in &routed {
        let missing: Vec<_> = match described.get(path) {
            Some(known) => methods.difference(known).collect(),
            None => methods.iter().collect(),
        };
        assert!(
            missing.is_empty(),
            "describe {missing:?} of {path} under \"paths\" of src/openapi.json"
        );
    }
    for (path, methods) in &described {
        let known = routed
            .get(path)
            .unwrap_or_else(|| panic!("there is no route {path}: take it out of src/openapi.json"));
        let gone: Vec<_> = methods.difference(known).collect();
        assert!(
            gone.is_empty(),
            "{path} does not take {gone:?}: take them out of src/openapi.json"
        );
    }
}

/// The properties of a schema, those of its alternatives included.
fn properties(schema: &Value) -> BTreeSet<&str> {
    let own = schema["properties"].as_object().into_iter().flat_map(|p| p.keys());
    let mut names: BTreeSet<&str> = own.map(String::as_str).collect();
    for kind in ["anyOf", "oneOf", "allOf"] {
        for part in schema[kind].as_array().into_iter().flatten() {
            names.extend(properties(part));
        }
    }
    names
}

#[test]
fn the_document_names_the_fields_that_bodies_read() {
    let document = document();
    for (schemas, fields) in bodies() {
        let named: BTreeSet<&str> = schemas
            .iter()
            .flat_map(|schema| properties(&document["components"]["schemas"][schema]))
            .collect();
        let read: BTreeSet<&str> = fields.iter().copied().collect();
        let missing: Vec<_> = read.difference(&named).collect();
        assert!(
            missing.is_empty(),
            "add {missing:?} to \"properties\" of {schemas:?} in src/openapi.json, with range and meaning"
        );
        let gone: Vec<_> = named.difference(&read).collect();
        assert!(
            gone.is_empty(),
            "{gone:?} of {schemas:?} is not read: take it out of src/openapi.json"
        );
    }
}

#[test]
fn fields_that_are_refused_are_not_described() {
    let document = document();
    for schema in ["CompletionRequest", "ChatCompletionRequest"] {
        let named = properties(&document["components"]["schemas"][schema]);
        for (name, _) in UNSUPPORTED {
            assert!(!named.contains(name), "{name} of {schema} is not served");
        }
    }
}

#[test]
fn every_body_is_compared_with_the_type_that_reads_it() {
    let document = document();
    let compared: BTreeSet<&str> =
        bodies().iter().flat_map(|(schemas, _)| *schemas).copied().collect();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
        let Some(name) = schema["$ref"].as_str() else {
            assert!(schema.is_null(), "the body of {path} is no reference to a schema");
            continue;
        };
        let name = name.trim_start_matches("#/components/schemas/");
        assert!(
            compared.contains(name),
            "add {name}, the body of {path}, to `bodies()` of this test"
        );
    }
}

/// Every `$ref` in `value`.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_is_met_and_nothing_lies_about_unused() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("a reference into the document");
        assert!(document.pointer(pointer).is_some(), "{reference} is not there");
    }
    for kind in ["schemas", "responses", "headers"] {
        for name in document["components"][kind].as_object().expect("components").keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(found.contains(reference.as_str()), "nothing refers to {reference}");
        }
    }
}

#[test]
fn the_document_has_the_version_and_the_open_paths_of_the_server() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let open = |(path, operations): (&String, &Value)| {
        let mut operations = operations.as_object().expect("operations").values();
        operations
            .any(|of| of["security"].as_array().is_some_and(Vec::is_empty))
            .then(|| path.clone())
    };
    let open: BTreeSet<String> =
        document["paths"].as_object().expect("paths").iter().filter_map(open).collect();
    assert_eq!(open, OPEN_PATHS.map(str::to_owned).into());
}
