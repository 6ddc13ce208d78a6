//! Rust text taken apart: per line its code, its comments, and whether it is test code.

/// One line of a Rust file.
#[derive(Debug, Default, Clone)]
pub struct Line {
    /// The code: comments are gone, and so is what strings and characters hold.
    pub code: String,
    /// The text of its comments, with their markers.
    pub comment: String,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
}

/// A Rust file taken apart.
#[derive(Debug, Default, Clone)]
pub struct Source {
    /// Its lines; index 0 is line 1.
    pub lines: Vec<Line>,
    /// Names of the modules that it declares for tests only (`#[cfg(test)] mod NAME;`).
    pub test_modules: Vec<String>,
}

impl Source {
    /// Takes `text` apart.
    pub fn new(text: &str) -> Self {
        let mut source = Self { lines: split(text), test_modules: Vec::new() };
        mark_tests(&mut source);
        source
    }

    /// The lines with their numbers, counted from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The lines that are not for tests only, with their numbers.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered().filter(|(_, line)| !line.is_test)
    }

    /// All code in one text, a line feed after each line.
    pub fn code(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.code)).collect()
    }
}

/// Whether `c` can stand in a Rust name.
pub fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The names, keywords and numbers of some code, in order.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_name(c)).filter(|word| !word.is_empty())
}

/// Where `path` (a name, or names with `::`) occurs in `code` as whole words.
pub fn find_path(code: &str, path: &str) -> Option<usize> {
    code.match_indices(path).map(|(start, _)| start).find(|&start| {
        !code[..start].ends_with(is_name) && !code[start + path.len()..].starts_with(is_name)
    })
}

/// What the reader of Rust text is inside of.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    /// A string that knows escapes.
    Text,
    /// A raw string with this many `#`.
    RawText(usize),
}

fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        let line = lines.last_mut().expect("there is always a line under way");
        if chars[at] == '\n' {
            if state == State::LineComment {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let (next, length) = step(state, &chars, at);
        let passed = chars[at..at + length].iter();
        let comment = |state| matches!(state, State::LineComment | State::BlockComment(_));
        if comment(state) || comment(next) {
            line.comment.extend(passed);
        } else if state == State::Code {
            let literal = passed.len() > 1 && next == State::Code;
            line.code.extend(passed.map(|&c| if literal { ' ' } else { c }));
        } else if next == State::Code {
            line.code.push('"');
        }
        state = next;
        at += length;
    }
    if lines.last().is_some_and(|line| line.code.is_empty() && line.comment.is_empty()) {
        lines.pop();
    }
    lines
}

/// The state after the next characters, and how many they are; they hold no line feed but in literals
/// of one character.
fn step(state: State, chars: &[char], at: usize) -> (State, usize) {
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    match state {
        State::LineComment => (state, 1),
        State::BlockComment(depth) if starts("/*") => (State::BlockComment(depth + 1), 2),
        State::BlockComment(1) if starts("*/") => (State::Code, 2),
        State::BlockComment(depth) if starts("*/") => (State::BlockComment(depth - 1), 2),
        State::BlockComment(_) => (state, 1),
        State::Text if starts("\\") && chars.get(at + 1) != Some(&'\n') => {
            (state, 2.min(chars.len() - at))
        }
        State::Text if starts("\"") => (State::Code, 1),
        State::Text => (state, 1),
        State::RawText(hashes) => {
            let end = format!("\"{}", "#".repeat(hashes));
            if starts(&end) { (State::Code, hashes + 1) } else { (state, 1) }
        }
        State::Code if starts("//") => (State::LineComment, 2),
        State::Code if starts("/*") => (State::BlockComment(1), 2),
        State::Code if starts("\"") => (State::Text, 1),
        State::Code if starts("'") => (State::Code, character_length(chars, at)),
        State::Code if starts("r") && !at.checked_sub(1).is_some_and(|b| is_plain(chars[b])) => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if chars.get(at + 1 + hashes) == Some(&'"') {
                (State::RawText(hashes), hashes + 2)
            } else {
                (State::Code, 1)
            }
        }
        State::Code => (State::Code, 1),
    }
}

/// Whether an `r` after `c` belongs to a name; `b` and `c` may stand before a raw string.
fn is_plain(c: char) -> bool {
    is_name(c) && c != 'b' && c != 'c'
}

/// Length of the character literal at `at`, or 1 for the mark of a lifetime.
fn character_length(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => {
            let rest = &chars[at + 3..];
            rest.iter().take(12).position(|&c| c == '\'').map_or(1, |length| length + 4)
        }
        (Some(_), Some('\'')) => 3,
        _ => 1,
    }
}

/// Marks what follows each `#[cfg(test)]` up to the end of that item.
fn mark_tests(source: &mut Source) {
    let code: Vec<(usize, char)> = source
        .lines
        .iter()
        .enumerate()
        .flat_map(|(number, line)| line.code.chars().chain(['\n']).map(move |c| (number, c)))
        .collect();
    let text: String = code.iter().map(|(_, c)| if c.is_ascii() { *c } else { '?' }).collect();
    for marker in ["#[cfg(test)]", "#[cfg(all(test,"] {
        for (start, _) in text.match_indices(marker) {
            let after = start + marker.len();
            let end = item_end(&text, after);
            for line in &mut source.lines[code[start].0..=code[end].0] {
                line.is_test = true;
            }
            let item: Vec<&str> = words(&text[after..=end]).collect();
            if let Some(module) = item.iter().position(|&word| word == "mod")
                && text.as_bytes()[end] == b';'
            {
                source.test_modules.extend(item.get(module + 1).map(|name| (*name).to_owned()));
            }
        }
    }
}

/// Index of the last character of the item at `start`: its `;`, or the brace that closes its body.
fn item_end(text: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices().skip(start) {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' if depth <= 1 => return at,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        Source::new(text).lines.iter().map(|line| line.code.trim_end().to_owned()).collect()
    }

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        assert_eq!(code("a(\"x // \\\" y\"); // z"), ["a(\"\");"]);
        assert_eq!(code("a /* b /* c */ d\n e */ f"), ["a", " f"]);
        assert_eq!(code("r#\"x \" y\"# + br\"z\" + for_r"), ["r#\"\" + br\"\" + for_r"]);
        assert_eq!(code("let c = '\"'; let d: &'a str = b;"), ["let c =    ; let d: &'a str = b;"]);
        assert_eq!(code("'\\'' + '\\u{1F}' + x"), ["     +          + x"]);
        assert_eq!(code("\"one\ntwo\" + x"), ["\"", "\" + x"]);
    }

    #[test]
    fn comments_are_kept_per_line() {
        let source = Source::new("x(); // one\n/* two\nthree */ y();\n");
        let comments: Vec<&str> = source.lines.iter().map(|line| line.comment.trim()).collect();
        assert_eq!(comments, ["// one", "/* two", "three */"]);
    }

    #[test]
    fn test_items_are_marked_to_their_end() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c[1]; }\n}\nfn d() {}\n";
        let marked: Vec<bool> = Source::new(text).lines.iter().map(|line| line.is_test).collect();
        assert_eq!(marked, [false, true, true, true, true, false]);

        let source = Source::new("#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse x;\nfn a() {}\n");
        assert_eq!(source.test_modules, ["tests"]);
        assert!(!source.lines[4].is_test && source.lines[3].is_test);
    }

    #[test]
    fn paths_are_found_as_whole_words() {
        assert_eq!(find_path("a = Instant::now()", "Instant::now"), Some(4));
        assert_eq!(find_path("MyInstant::now() Instant::nowhere", "Instant::now"), None);
        assert_eq!(find_path("mf64 + f64", "f64"), Some(7));
    }
}
