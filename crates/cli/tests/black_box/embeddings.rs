//! `serve --pooling-type`.

use serde_json::{Value, json};

use crate::process::{Server, TINY, millrace};

/// The vectors of a server with these options for a long and a short input.
fn vectors(options: &[&str]) -> (Value, Value) {
    let server = Server::start(TINY.iter().chain(options).copied());
    let reply = server.post("/v1/embeddings", &json!({"input": [[11, 12, 13], [11]]}));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let vector = |index: usize| reply.json()["data"][index]["embedding"].clone();
    let width = server.get("/server_info").json()["embedding_len"].as_u64();
    assert_eq!(vector(0).as_array().map(|vector| vector.len() as u64), width);
    (vector(0), vector(1))
}

#[test]
fn the_pooling_type_decides_what_a_vector_is_made_of() {
    let default = vectors(&[]);
    let mean = vectors(&["--pooling-type", "mean"]);
    let last = vectors(&["--pooling-type", "last"]);
    assert_eq!(default, mean);
    assert_ne!(mean.0, last.0);
    assert_eq!(mean.1, last.1, "of one token both are its state");
}

#[test]
fn an_unknown_pooling_type_is_refused_with_those_there_are() {
    let options = ["serve", "--pooling-type", "max"];
    let ended = millrace(options);
    assert_eq!(ended.code(), Some(2));
    assert!(ended.stderr.contains("give mean or last"), "{}", ended.stderr);
}
