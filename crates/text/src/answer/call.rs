//! One call of a function, read character by character.

use std::sync::Arc;

use super::{ARGS, Parts, ToolFormat};

/// What a character means for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It belongs to the call, which goes on.
    More,
    /// It is the call's last one.
    Done,
    /// The call, which was told, ended before it.
    Over,
    /// There is no call here.
    Malformed,
}

/// Keys before the arguments; the call is given up at any other one.
const KEYS: [&str; 5] = ["name", "arguments", "parameters", "type", "id"];

/// Longest name behind `[TOOL_CALLS]`, in bytes.
const BARE_NAME_BYTES: usize = 128;

/// Reads the object of a call; tells the call as soon as its name is known and its arguments
/// begin, and then these as they come.
#[derive(Debug)]
pub(super) struct CallReader {
    format: ToolFormat,
    names: Arc<[String]>,
    /// Everything since before the mark, as long as nothing is told.
    untold: String,
    place: Place,
    key: String,
    value: String,
    scan: ValueScan,
    /// Taken when it is told.
    name: Option<String>,
    arguments: Option<String>,
    is_told: bool,
    /// Whether there is no object around name and arguments.
    is_bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    BareName,
    Key,
    InKey,
    Colon,
    Value,
    InValue,
    BehindValue,
}

impl CallReader {
    /// A reader for a call of one of `names`; `untold` is the text of its mark, which becomes
    /// content if no call follows.
    pub(super) fn new(format: ToolFormat, names: Arc<[String]>, untold: String) -> Self {
        CallReader {
            format,
            names,
            untold,
            place: Place::Open,
            key: String::new(),
            value: String::new(),
            scan: ValueScan::default(),
            name: None,
            arguments: None,
            is_told: false,
            is_bare: false,
        }
    }

    /// The text that is no call after all; empty once the call is told.
    pub(super) fn take_untold(&mut self) -> String {
        std::mem::take(&mut self.untold)
    }

    /// Takes a character. On [`Flow::Over`] and [`Flow::Malformed`] it is not taken.
    pub(super) fn push(&mut self, c: char, parts: &mut Parts) -> Flow {
        let flow = self.advance(c, parts);
        match flow {
            Flow::Malformed if self.is_told => Flow::Over,
            Flow::More if !self.is_told => {
                self.untold.push(c);
                flow
            }
            _ => flow,
        }
    }

    fn advance(&mut self, c: char, parts: &mut Parts) -> Flow {
        let is_space = c.is_whitespace();
        match self.place {
            Place::BareName => return self.bare_name(c, parts),
            Place::InKey => return self.in_key(c),
            Place::InValue => return self.in_value(c, parts),
            _ if is_space => return Flow::More,
            Place::Value => return self.begin_value(c, parts),
            _ => {}
        }
        self.place = match (self.place, c) {
            (Place::Open, '{') => Place::Key,
            (Place::Open, '[') if self.is_of_mistral() => Place::Open,
            (Place::Open, _) if self.is_of_mistral() => {
                self.key.push(c);
                Place::BareName
            }
            (Place::Key, '"') => {
                self.key.clear();
                Place::InKey
            }
            (Place::Colon, ':') => Place::Value,
            (Place::BehindValue, ',') => Place::Key,
            (Place::BehindValue | Place::Key, '}') => return self.close(parts),
            _ => return Flow::Malformed,
        };
        Flow::More
    }

    fn in_key(&mut self, c: char) -> Flow {
        let is_whole = c == '"';
        if is_whole {
            self.place = Place::Colon;
        } else {
            self.key.push(c);
        }
        let key = self.key.as_str();
        let fits = |known: &&str| if is_whole { *known == key } else { known.starts_with(key) };
        if self.is_told || KEYS.iter().any(fits) { Flow::More } else { Flow::Malformed }
    }

    /// `NAME{` or `NAME[ARGS]{`.
    fn bare_name(&mut self, c: char, parts: &mut Parts) -> Flow {
        if c != '{' {
            self.key.push(c);
            return if self.key.len() <= BARE_NAME_BYTES { Flow::More } else { Flow::Malformed };
        }
        let name = self.key.trim_end();
        let name = name.strip_suffix(ARGS).unwrap_or(name).trim_end().to_owned();
        if !self.names.contains(&name) {
            return Flow::Malformed;
        }
        self.name = Some(name);
        self.is_bare = true;
        self.key = "arguments".to_owned();
        self.begin_value(c, parts)
    }

    fn begin_value(&mut self, c: char, parts: &mut Parts) -> Flow {
        self.value.clear();
        self.scan = ValueScan::default();
        self.place = Place::InValue;
        if self.is_of_arguments() {
            if c != '{' {
                return Flow::Malformed;
            }
            if self.arguments.is_none()
                && let Some(name) = self.name.take()
            {
                self.tell(name, parts);
            }
        }
        self.in_value(c, parts)
    }

    fn in_value(&mut self, c: char, parts: &mut Parts) -> Flow {
        let end = self.scan.push(c);
        if end != ValueEnd::Before {
            if self.is_told && self.is_of_arguments() && self.arguments.is_none() {
                parts.arguments(c.encode_utf8(&mut [0; 4]));
            } else {
                self.value.push(c);
            }
        }
        if end == ValueEnd::None {
            return Flow::More;
        }
        if self.is_of_arguments() {
            self.arguments.get_or_insert_with(|| std::mem::take(&mut self.value));
        } else if self.key == "name" && !self.is_told {
            match serde_json::from_str::<String>(&self.value) {
                Ok(name) if self.names.contains(&name) => self.name = Some(name),
                _ => return Flow::Malformed,
            }
        }
        self.place = Place::BehindValue;
        match end {
            _ if self.is_bare => Flow::Done,
            ValueEnd::Before => self.advance(c, parts),
            _ => Flow::More,
        }
    }

    /// The end of the object.
    fn close(&mut self, parts: &mut Parts) -> Flow {
        if self.is_told {
            return Flow::Done;
        }
        let Some(name) = self.name.take() else { return Flow::Malformed };
        self.tell(name, parts);
        parts.arguments(self.arguments.as_deref().unwrap_or("{}"));
        Flow::Done
    }

    fn tell(&mut self, name: String, parts: &mut Parts) {
        parts.call(name);
        self.is_told = true;
        self.untold.clear();
    }

    fn is_of_mistral(&self) -> bool {
        matches!(self.format, ToolFormat::Mistral { .. })
    }

    fn is_of_arguments(&self) -> bool {
        self.key == "arguments" || self.key == "parameters"
    }
}

/// Where a JSON value ends; what is in it is not checked.
#[derive(Debug, Default)]
struct ValueScan {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

/// Whether a value ends at a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueEnd {
    None,
    /// It is the value's last one.
    With,
    /// It is the first one behind the value.
    Before,
}

impl ValueScan {
    fn push(&mut self, c: char) -> ValueEnd {
        if self.in_string {
            return self.in_string(c);
        }
        match c {
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' if self.depth == 0 => return ValueEnd::Before,
            '}' | ']' => {
                self.depth -= 1;
                return if self.depth == 0 { ValueEnd::With } else { ValueEnd::None };
            }
            ',' if self.depth == 0 => return ValueEnd::Before,
            _ if self.depth == 0 && c.is_whitespace() => return ValueEnd::Before,
            _ => {}
        }
        ValueEnd::None
    }

    fn in_string(&mut self, c: char) -> ValueEnd {
        match c {
            _ if self.is_escaped => self.is_escaped = false,
            '\\' => self.is_escaped = true,
            '"' => {
                self.in_string = false;
                return if self.depth == 0 { ValueEnd::With } else { ValueEnd::None };
            }
            _ => {}
        }
        ValueEnd::None
    }
}
