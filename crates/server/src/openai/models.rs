//! The reply of `/v1/models`.

use serde::Serialize;

use crate::config::ServerInfo;

/// The list of the one model.
#[derive(Debug, Serialize)]
pub struct ModelList<'a> {
    object: &'static str,
    data: [Model<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: &'a str,
    parent: Option<&'a str>,
    max_model_len: u32,
}

impl<'a> ModelList<'a> {
    /// The list for the model in `info`, served since `created` (Unix time in seconds).
    pub fn new(info: &'a ServerInfo, created: u64) -> Self {
        let model = Model {
            id: &info.model,
            object: "model",
            created,
            owned_by: "millrace",
            root: &info.root,
            parent: None,
            max_model_len: info.max_model_len,
        };
        ModelList { object: "list", data: [model] }
    }
}
