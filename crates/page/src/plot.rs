//! A plotting area: shapes that stretch with the page, labels and markers that do not.
//!
//! All shapes lie in an inner SVG whose coordinates are stretched to the width of the page. Text
//! and markers lie over it at percentages of that width, so that they have the same size on a
//! telephone and on a wide screen, and only the distances between them change.

use std::fmt::Write;

use crate::markup::{Attributes, Markup};
use crate::number::coordinate;
use crate::scale::Scale;

/// Width of the inner coordinates.
const WIDTH: f64 = 1000.0;
/// Pixels above the area, for the title of the vertical axis.
const TOP: f64 = 24.0;
/// Pixels between two lines of text.
const LINE: f64 = 16.0;
/// Most labels of an axis: what fits on a telephone.
const TICKS: usize = 6;

/// Shapes of markers, told apart without colour.
const MARKERS: [&str; 4] = [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "M-4 -4h8v8h-8z",
    "M0 -5.5L5.5 4.5H-5.5z",
    "M0 -6L6 0L0 6L-6 0z",
];

/// The path of a marker; there are as many shapes as anybody can tell apart, then they repeat.
pub(crate) fn marker_path(shape: usize) -> &'static str {
    MARKERS[shape % MARKERS.len()]
}

/// A chart's area with its two axes and everything drawn on it so far.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    x: Scale,
    y: Scale,
    height: f64,
    top: f64,
    bottom: f64,
    grid: Markup,
    shapes: Markup,
    markers: Markup,
    labels: Markup,
}

impl Plot {
    /// An empty area `height` pixels high.
    pub(crate) fn new(x: Scale, y: Scale, height: f64) -> Plot {
        let empty = Markup::default;
        Plot {
            x,
            y,
            height,
            top: TOP,
            bottom: 4.0,
            grid: empty(),
            shapes: empty(),
            markers: empty(),
            labels: empty(),
        }
    }

    /// Makes room for so many `rows` of words above the area, for [`Plot::vertical`]. To be called
    /// before anything is drawn.
    pub(crate) fn with_notes(self, rows: usize) -> Plot {
        Plot { top: TOP + LINE * rows as f64, ..self }
    }

    /// Grid lines across the area, without labels.
    pub(crate) fn x_grid(&mut self) {
        for tick in self.x.ticks(TICKS) {
            let x = self.percent(tick);
            let (top, bottom) = (coordinate(self.top), coordinate(self.top + self.height));
            self.grid.leaf("line", &[("x1", &x), ("x2", &x), ("y1", &top), ("y2", &bottom)]);
        }
    }

    /// The horizontal axis: grid lines, a label for each, and a `title` below.
    pub(crate) fn x_axis(&mut self, title: &str, label: fn(f64) -> String) {
        self.x_grid();
        let ticks = self.x.ticks(TICKS);
        self.x_labels(title, ticks.into_iter().map(|tick| (tick, label(tick))).collect());
    }

    /// Labels of the horizontal axis at places of the caller's choice, and a `title` below.
    pub(crate) fn x_labels(&mut self, title: &str, labels: Vec<(f64, String)>) {
        self.bottom = 2.0 * LINE + 10.0;
        let y = coordinate(self.top + self.height + LINE + 2.0);
        for (value, label) in labels {
            let x = self.percent(value);
            self.labels.element("text", &[("x", &x), ("y", &y), ("class", "tick mid")], &label);
        }
        let y = coordinate(self.top + self.height + 2.0 * LINE + 5.0);
        self.labels.element("text", &[("x", "50%"), ("y", &y), ("class", "mid")], title);
    }

    /// The vertical axis: grid lines, a label for each, and a `title` above.
    pub(crate) fn y_axis(&mut self, title: &str, label: fn(f64) -> String) {
        let most = ((self.height / 28.0) as usize).clamp(2, TICKS);
        let ticks = self.y.ticks(most);
        self.y_labels(title, ticks.into_iter().map(|tick| (tick, label(tick))).collect());
    }

    /// Grid lines with labels at places of the caller's choice, and a `title` above.
    pub(crate) fn y_labels(&mut self, title: &str, labels: Vec<(f64, String)>) {
        for (value, label) in labels {
            let y = self.down(value);
            let line = coordinate(y);
            let attributes = [("x1", "0"), ("x2", "100%"), ("y1", &line), ("y2", &line)];
            self.grid.leaf("line", &attributes);
            let y = coordinate(y + 4.0);
            self.labels.element("text", &[("x", "-7"), ("y", &y), ("class", "tick end")], &label);
        }
        self.title(title);
    }

    /// A title above the area.
    pub(crate) fn title(&mut self, title: &str) {
        let y = coordinate(TOP - 10.0);
        self.labels.element("text", &[("x", "0"), ("dx", "-46"), ("y", &y)], title);
    }

    /// A line through the `points`.
    pub(crate) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (n, &(x, y)) in points.iter().enumerate() {
            let pen = if n == 0 { 'M' } else { 'L' };
            write!(path, "{pen}{} {}", self.across(x), self.below_top(y)).expect("it takes all");
        }
        self.shape("path", &[("class", class), ("d", &path)]);
    }

    /// A line that keeps each value until the next point and then jumps.
    pub(crate) fn steps(&mut self, class: &str, points: &[(f64, f64)]) {
        let path = self.step_path(points);
        self.shape("path", &[("class", class), ("d", &path)]);
    }

    /// The same as [`Plot::steps`], filled down to the axis.
    pub(crate) fn step_area(&mut self, class: &str, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let floor = coordinate(self.height);
        let path = format!(
            "M{} {floor}V{}{}V{floor}H{}Z",
            self.across(first.0),
            self.below_top(first.1),
            self.step_path(points).trim_start_matches(|c| c != 'H'),
            self.across(first.0),
        );
        debug_assert!(first.0 <= last.0, "points come in the order of time");
        self.shape("path", &[("class", class), ("d", &path)]);
    }

    /// A filled rectangle between two values of each axis.
    pub(crate) fn bar(&mut self, class: &str, x: (f64, f64), y: (f64, f64)) {
        let (left, right) = (WIDTH * self.x.at(x.0), WIDTH * self.x.at(x.1));
        let (top, bottom) = (self.down(y.1) - self.top, self.down(y.0) - self.top);
        let [x, y, width, height] = [left, top, right - left, bottom - top].map(coordinate);
        let place = [("x", &*x), ("y", &*y), ("width", &*width), ("height", &*height)];
        match class {
            "" => self.shape("rect", &place),
            _ => self.shape("rect", &[&[("class", class)], &place[..]].concat()),
        }
    }

    /// Begins a group of shapes that have a class and, if it says something, a `tip` in common.
    pub(crate) fn open_group(&mut self, class: &str, tip: &str) {
        match class {
            "" => self.shapes.open("g", &[]),
            _ => self.shapes.open("g", &[("class", class)]),
        }
        if !tip.is_empty() {
            self.shapes.element("title", &[], tip);
        }
    }

    /// Ends it.
    pub(crate) fn close_group(&mut self) {
        self.shapes.close("g");
    }

    /// A marker at a point, with words for who points at it.
    pub(crate) fn marker(&mut self, class: &str, shape: usize, at: (f64, f64), tip: &str) {
        let (x, y) = (self.percent(at.0), coordinate(self.down(at.1)));
        let class = format!("marker {class}");
        self.markers.open("svg", &[("x", &x), ("y", &y), ("class", &class)]);
        self.markers.element("title", &[], tip);
        self.markers.leaf("path", &[("d", marker_path(shape))]);
        self.markers.close("svg");
    }

    /// Whether a few characters above each of two points would not lie over each other, even on a
    /// telephone.
    pub(crate) fn are_apart(&self, one: (f64, f64), other: (f64, f64)) -> bool {
        let across = (self.x.at(one.0) - self.x.at(other.0)).abs();
        0.08 <= across || LINE <= (self.down(one.1) - self.down(other.1)).abs()
    }

    /// A few characters above a point.
    pub(crate) fn above(&mut self, at: (f64, f64), text: &str) {
        let (x, y) = (self.percent(at.0), coordinate(self.down(at.1) - 10.0));
        self.labels.element("text", &[("x", &x), ("y", &y), ("class", "tick mid")], text);
    }

    /// A line from top to bottom with words above it, in one of the rows of [`Plot::with_notes`],
    /// counted from the area up.
    pub(crate) fn vertical(&mut self, class: &str, x: f64, row: usize, text: &str) {
        let place = self.percent(x);
        let row = self.top - LINE * row as f64;
        let (top, bottom) = (coordinate(row - 12.0), coordinate(self.top + self.height));
        let ends = [("x1", &*place), ("x2", &*place), ("y1", &*top), ("y2", &*bottom)];
        self.grid.leaf("line", &[&[("class", class)], &ends[..]].concat());
        self.words(x, row - 4.0, "note", text);
    }

    /// A line from left to right with words above its right end.
    pub(crate) fn horizontal(&mut self, class: &str, y: f64, text: &str) {
        let at = self.down(y);
        let line = coordinate(at);
        let ends = [("x1", "0"), ("x2", "100%"), ("y1", &*line), ("y2", &*line)];
        self.labels.leaf("line", &[&[("class", class)], &ends[..]].concat());
        let y = coordinate(at - 4.0);
        self.labels.element("text", &[("x", "100%"), ("y", &y), ("class", "note end")], text);
    }

    /// Words to the right of the area, at a height.
    pub(crate) fn beside(&mut self, y: f64, text: &str) {
        let y = coordinate(self.down(y) + 4.0);
        let place = [("x", "100%"), ("dx", "8"), ("y", &*y), ("class", "tick")];
        self.labels.element("text", &place, text);
    }

    /// The finished chart; `name` and `description` are for who cannot see it.
    pub(crate) fn into_svg(self, name: &str, description: &str) -> Markup {
        let mut svg = Markup::default();
        let height = coordinate(self.top + self.height + self.bottom);
        let class = [("class", "plot"), ("role", "img"), ("aria-label", name)];
        svg.open("svg", &[&class[..], &[("height", &height)]].concat());
        svg.element("desc", &[], description);
        svg.open("g", &[("class", "grid")]);
        svg.add(&self.grid);
        svg.close("g");
        let (top, inner) = (coordinate(self.top), coordinate(self.height));
        let view = format!("0 0 {WIDTH} {inner}");
        let size = [("y", &*top), ("width", "100%"), ("height", &*inner), ("viewBox", &*view)];
        let rest = [("preserveAspectRatio", "none"), ("class", "marks")];
        svg.open("svg", &[&size[..], &rest[..]].concat());
        svg.add(&self.shapes);
        svg.close("svg");
        svg.open("g", &[("class", "marks")]);
        svg.add(&self.markers);
        svg.close("g");
        svg.add(&self.labels);
        svg.close("svg");
        svg
    }

    fn shape(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.shapes.leaf(tag, attributes);
    }

    fn words(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let (dx, side) = if self.x.at(x) < 0.55 {
            ("7", class.to_owned())
        } else {
            ("-7", format!("{class} end"))
        };
        let (x, y) = (self.percent(x), coordinate(y));
        let place = [("x", &*x), ("dx", dx), ("y", &*y), ("class", &*side)];
        self.labels.element("text", &place, text);
    }

    fn step_path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (n, &(x, y)) in points.iter().enumerate() {
            match n {
                0 => write!(path, "M{} {}", self.across(x), self.below_top(y)),
                _ => write!(path, "H{}V{}", self.across(x), self.below_top(y)),
            }
            .expect("a String takes all");
        }
        path
    }

    /// Inner coordinate of a value on the horizontal axis.
    fn across(&self, x: f64) -> String {
        coordinate(WIDTH * self.x.at(x))
    }

    /// Inner coordinate of a value on the vertical axis.
    fn below_top(&self, y: f64) -> String {
        coordinate(self.down(y) - self.top)
    }

    /// Place of a value on the horizontal axis for what is not stretched.
    fn percent(&self, x: f64) -> String {
        format!("{}%", coordinate(100.0 * self.x.at(x)))
    }

    /// Pixels from the top of the chart to a value on the vertical axis.
    fn down(&self, y: f64) -> f64 {
        self.top + self.height * (1.0 - self.y.at(y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        Plot::new(Scale::linear(0.0, 10.0), Scale::linear(0.0, 100.0), 200.0)
    }

    fn drawn(draw: impl FnOnce(&mut Plot)) -> String {
        let mut plot = plot();
        draw(&mut plot);
        plot.into_svg("name", "what it shows").into_text()
    }

    #[test]
    fn shapes_lie_where_the_scales_say() {
        let svg = drawn(|plot| {
            plot.line("c0", &[(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]);
            plot.steps("c1", &[(0.0, 0.0), (5.0, 100.0)]);
            plot.step_area("c2", &[(0.0, 50.0), (5.0, 100.0), (10.0, 0.0)]);
            plot.bar("c3", (2.0, 4.0), (25.0, 50.0));
        });
        for shape in [
            r#"<path class="c0" d="M0 200L500 100L1000 0"/>"#,
            r#"<path class="c1" d="M0 200H500V0"/>"#,
            r#"<path class="c2" d="M0 200V100H500V0H1000V200V200H0Z"/>"#,
            r#"<rect class="c3" x="200" y="100" width="200" height="50"/>"#,
        ] {
            assert!(svg.contains(shape), "{shape} is not in {svg}");
        }
    }

    #[test]
    fn words_stay_inside_on_both_sides() {
        let svg = drawn(|plot| {
            plot.vertical("cap", 1.0, 0, "left");
            plot.vertical("cap", 9.0, 0, "right");
        });
        assert!(svg.contains(r#"<text x="10%" dx="7" y="20" class="note">left</text>"#), "{svg}");
        assert!(svg.contains(r#"<text x="90%" dx="-7" y="20" class="note end">right</text>"#));
    }

    #[test]
    fn words_of_others_are_escaped() {
        let svg = drawn(|plot| {
            plot.marker("c0", 1, (5.0, 50.0), "<script>");
            plot.above((5.0, 50.0), "<b>");
            plot.open_group("", "</svg>");
            plot.close_group();
        });
        assert!(svg.contains("&lt;script&gt;") && svg.contains("&lt;b&gt;"));
        assert_eq!(svg.matches("</svg>").count(), 3, "{svg}");
    }
}
