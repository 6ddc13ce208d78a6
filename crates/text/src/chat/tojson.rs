//! The filter `tojson` as Hugging Face defines it for chat templates.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Levels of lists and maps within each other.
const MAX_DEPTH: usize = 64;

/// Spaces for one level.
const MAX_INDENT: usize = 16;

/// Largest result in bytes.
const MAX_BYTES: usize = 1 << 20;

/// `value` as JSON in Python's style: `", "` and `": "` between, nothing escaped for HTML, and
/// line breaks with `indent` (0 to 16 spaces for each level).
///
/// `ensure_ascii` may only be false, which it is anyway. Other options are refused.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(refuse("tojson with ensure_ascii=true is not supported".to_owned()));
    }
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(refuse(format!("tojson with indent above {MAX_INDENT} is not supported")));
    }
    let mut writer = Writer { indent, out: String::new() };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

/// `value` in one line.
pub(super) fn line(value: &Value) -> Result<String, Error> {
    let mut writer = Writer { indent: None, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

struct Writer {
    indent: Option<usize>,
    out: String,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH || self.out.len() > MAX_BYTES {
            return Err(refuse(format!(
                "tojson gives up at {MAX_DEPTH} levels or {MAX_BYTES} bytes"
            )));
        }
        match value.kind() {
            ValueKind::Map => {
                let keys = value.try_iter()?;
                self.items('{', '}', depth, keys, |writer, key| {
                    writer.string(&key.to_string())?;
                    writer.out.push_str(": ");
                    writer.value(&value.get_item(&key)?, depth + 1)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.items('[', ']', depth, items, |writer, item| writer.value(&item, depth + 1))
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&value.to_string()),
            other => Err(refuse(format!("tojson cannot write a value of type {other}"))),
        }
    }

    /// One list or map, with `write` for each of its items.
    fn items(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.out.push(',');
            }
            match self.indent {
                Some(_) => self.line(depth + 1),
                None if !empty => self.out.push(' '),
                None => {}
            }
            empty = false;
            write(self, item)?;
        }
        if !empty && self.indent.is_some() {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        let spaces = depth * self.indent.unwrap_or_default();
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', spaces));
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::to_string(text)
            .map_err(|error| refuse(format!("tojson cannot write a string: {error}")))?;
        self.push(&quoted)
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.out.push_str(text);
        Ok(())
    }
}
