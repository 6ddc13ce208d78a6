//! HTML and SVG that cannot be broken out of: text and attributes are escaped as they are written.

use std::fmt::Write;

/// Attributes of an element, in the order in which they are written.
pub(crate) type Attributes<'a> = &'a [(&'static str, &'a str)];

/// A piece of well-formed markup under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markup {
    text: String,
}

impl Markup {
    /// Writes `<tag …>`.
    pub(crate) fn open(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.start(tag, attributes);
        self.text.push('>');
    }

    /// Writes `</tag>`.
    pub(crate) fn close(&mut self, tag: &'static str) {
        self.text += "</";
        self.text += tag;
        self.text.push('>');
    }

    /// Writes an SVG element without content: `<tag …/>`.
    pub(crate) fn leaf(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.start(tag, attributes);
        self.text += "/>";
    }

    /// Writes an element that holds nothing but `text`.
    pub(crate) fn element(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.open(tag, attributes);
        self.text(text);
        self.close(tag);
    }

    /// Writes text, which may be anything.
    pub(crate) fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.text += "&amp;",
                '<' => self.text += "&lt;",
                '>' => self.text += "&gt;",
                '"' => self.text += "&quot;",
                '\'' => self.text += "&#39;",
                // What HTML does not allow, not even as a reference.
                '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                    write!(self.text, "\\u{{{:x}}}", u32::from(character))
                        .expect("a String takes all");
                }
                other => self.text.push(other),
            }
        }
    }

    /// Adds what has been built elsewhere.
    pub(crate) fn add(&mut self, other: &Markup) {
        self.text += &other.text;
    }

    /// Adds a piece of this program, as it is.
    pub(crate) fn constant(&mut self, markup: &'static str) {
        self.text += markup;
    }

    /// The finished text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn start(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.text.push('<');
        self.text += tag;
        for (name, value) in attributes {
            self.text.push(' ');
            self.text += name;
            self.text += "=\"";
            self.text(value);
            self.text.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut markup = Markup::default();
        let hostile = "</script><img src=x onerror='a(\"b\")'>&\u{0}";
        markup.element("p", &[("title", "\" onclick=\"x")], hostile);
        assert_eq!(
            markup.into_text(),
            "<p title=\"&quot; onclick=&quot;x\">&lt;/script&gt;&lt;img src=x \
             onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;\\u{0}</p>"
        );
    }
}
