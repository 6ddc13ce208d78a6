//! The report as one HTML file: verdict, tables and charts, for people without a plotting tool.
//!
//! The file asks for nothing: style, script and charts are inside, and its content policy forbids
//! it to load or send anything. It follows the reader's light or dark theme, and without JavaScript
//! it shows everything at once. The same input gives the same bytes.
//!
//! This crate does not know servers, engines, HTTP, files or clocks. It draws what `workload`
//! describes, whether that was measured or simulated, and every text in it may be hostile.
//!
//! Data passes through in the order of the modules: [`Page`] is made into views of its levels
//! (`level`), `reading` decides what is to be said of each chart, which `words` say in the report's
//! language, the charts (`curves`,
//! `distribution`, `requests`, `gaps`, `decomposition`) draw it onto a `plot` of two `scale`s, and
//! `document` puts them between `tables` and text. Whatever becomes text passes through `markup`,
//! which escapes it.
#![forbid(unsafe_code)]

mod number;
mod markup;
mod scale;
mod plot;
mod figure;
mod words;
mod level;
mod reading;
mod curves;
mod distribution;
mod requests;
mod gaps;
mod decomposition;
mod tables;
mod document;

pub use document::{LevelRun, Page};
