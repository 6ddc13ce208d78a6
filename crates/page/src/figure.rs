//! A chart with all that makes it readable: heading, one sentence, legend, note.

use crate::markup::Markup;
use crate::plot::{Plot, marker_path};

/// One entry of a legend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    /// Class that gives the colour and the pattern.
    pub(crate) class: String,
    /// How it looks in the chart.
    pub(crate) look: Look,
    /// What it stands for.
    pub(crate) label: String,
}

/// How something looks in a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A line.
    Line,
    /// A line with markers of this shape on it.
    Marked(usize),
    /// A filled area.
    Filled,
}

impl Key {
    /// An entry.
    pub(crate) fn new(class: impl Into<String>, look: Look, label: impl Into<String>) -> Key {
        Key { class: class.into(), look, label: label.into() }
    }
}

/// A chart, or several above one another, with words around.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Name of its place in the page.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) heading: String,
    /// What can be seen, in a sentence or two with the numbers.
    pub(crate) reading: String,
    /// What colours and patterns mean.
    pub(crate) legend: Vec<Key>,
    /// The charts, each with a name for who cannot see it.
    pub(crate) plots: Vec<(String, Plot)>,
    /// How it was drawn, if that needs words.
    pub(crate) note: Option<String>,
    /// Whether it needs the whole width, and whether its labels on the left are long.
    pub(crate) layout: Layout,
}

/// How much place a figure takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Beside another one if the page is wide.
    Half,
    /// The whole width.
    Whole,
    /// The whole width, with long labels on both sides.
    Bars,
}

impl Figure {
    /// The figure as HTML.
    pub(crate) fn into_html(self) -> Markup {
        let mut html = Markup::default();
        let class = match self.layout {
            Layout::Half => "half",
            Layout::Whole => "whole",
            Layout::Bars => "whole bars",
        };
        html.open("figure", &[("id", &self.id), ("class", class)]);
        html.open("figcaption", &[]);
        html.element("h3", &[], &self.heading);
        html.element("p", &[], &self.reading);
        html.close("figcaption");
        if !self.legend.is_empty() {
            html.open("ul", &[("class", "legend")]);
            for key in &self.legend {
                entry(&mut html, key);
            }
            html.close("ul");
        }
        for (name, plot) in self.plots {
            html.add(&plot.into_svg(&name, &self.reading));
        }
        if let Some(note) = self.note {
            html.element("p", &[("class", "small")], &note);
        }
        html.close("figure");
        html
    }
}

fn entry(html: &mut Markup, key: &Key) {
    html.open("li", &[]);
    html.open("svg", &[("class", "key"), ("aria-hidden", "true")]);
    match key.look {
        Look::Filled => {
            let place = [("y", "2"), ("width", "28"), ("height", "10")];
            html.leaf("rect", &[&[("class", &*key.class)], &place[..]].concat());
        }
        Look::Line | Look::Marked(_) => {
            html.leaf("path", &[("class", &key.class), ("d", "M0 7H28")]);
        }
    }
    if let Look::Marked(shape) = key.look {
        html.open("svg", &[("x", "14"), ("y", "7"), ("class", &format!("marker {}", key.class))]);
        html.leaf("path", &[("d", marker_path(shape))]);
        html.close("svg");
    }
    html.close("svg");
    html.text(&key.label);
    html.close("li");
}
