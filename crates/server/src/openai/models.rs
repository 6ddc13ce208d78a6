//! The replies of `/v1/models` and `/v1/models/{id}`.

use engine::AdapterId;
use serde::Serialize;

use crate::config::ServerInfo;

/// The list of the model and its adapters.
#[derive(Debug, Serialize)]
pub struct ModelList<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

/// The model, or an adapter of it.
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
    /// What is served by `info` with this adapter, since `created` (Unix time in seconds).
    pub fn new(info: &'a ServerInfo, adapter: Option<AdapterId>, created: u64) -> Self {
        Model {
            id: info.name_of(adapter),
            object: "model",
            created,
            owned_by: "millrace",
            root: adapter.map_or(&info.root, |adapter| &info.adapters[adapter.0 as usize].root),
            parent: adapter.map(|_| &*info.model),
            max_model_len: info.max_model_len,
        }
    }
}

impl<'a> ModelList<'a> {
    /// All that `info` serves, since `created` (Unix time in seconds).
    pub fn new(info: &'a ServerInfo, created: u64) -> Self {
        let adapters = (0..info.adapters.len() as u32).map(|place| Some(AdapterId(place)));
        let all = [None].into_iter().chain(adapters);
        let data = all.map(|adapter| Model::new(info, adapter, created)).collect();
        ModelList { object: "list", data }
    }
}
