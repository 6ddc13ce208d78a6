//! The command line as it can be shown and typed again.

/// The program's name and its `words`, each quoted if a shell would change it. The values of
/// `secret` options are left out.
pub fn shown(words: impl Iterator<Item = String>, secret: &[&str]) -> String {
    let mut text = String::from("millrace");
    let mut hides_next = false;
    for word in words {
        let (option, value) = word.split_once('=').map_or((&*word, None), |(o, v)| (o, Some(v)));
        let is_secret = secret.contains(&option);
        text.push(' ');
        match (hides_next, is_secret && value.is_some()) {
            (true, _) => text += "...",
            (false, true) => text += &format!("{option}=..."),
            (false, false) => text += &quoted(&word),
        }
        hides_next = is_secret && value.is_none() && !hides_next;
    }
    text
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(words: &[&str]) -> String {
        shown(words.iter().map(|word| (*word).to_owned()), &["--api-key"])
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["bench", "--levels", "1,4", "--model", "my model's.gguf", ""];
        let expected = r"millrace bench --levels 1,4 --model 'my model'\''s.gguf' ''";
        assert_eq!(shown_of(&words), expected);
    }

    #[test]
    fn keys_are_not_shown() {
        let words = ["bench", "--api-key", "sesame", "--api-key=sesame", "--seed", "3"];
        assert_eq!(shown_of(&words), "millrace bench --api-key ... --api-key=... --seed 3");
    }
}
