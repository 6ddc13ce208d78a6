//! The replies of `/v1/models` and `/v1/models/{id}`.

use serde::Serialize;

use crate::config::ServerInfo;

/// The list of the one model.
#[derive(Debug, Serialize)]
pub struct ModelList<'a> {
    object: &'static str,
    data: [Model<'a>; 1],
}

/// The one model.
#[derive(Debug, Serialize)]
pub struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: &'a str,
    parent: Option<&'a str>,
    max_model_len: u32,
}

impl<'a> Model<'a> {
    /// The model in `info`, served since `created` (Unix time in seconds).
    pub fn new(info: &'a ServerInfo, created: u64) -> Self {
        Model {
            id: &info.model,
            object: "model",
            created,
            owned_by: "millrace",
            root: &info.root,
            parent: None,
            max_model_len: info.max_model_len,
        }
    }
}

impl<'a> ModelList<'a> {
    /// The list for the model in `info`, served since `created` (Unix time in seconds).
    pub fn new(info: &'a ServerInfo, created: u64) -> Self {
        ModelList { object: "list", data: [Model::new(info, created)] }
    }
}
