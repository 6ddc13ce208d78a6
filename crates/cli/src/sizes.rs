//! Sizes in bytes, as people write them.

/// Parses `1073741824`, `1GiB`, `1G`, `512MiB`, `64k`: plain bytes or binary multiples.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("unknown unit \"{unit}\"; write bytes, or KiB, MiB, GiB, TiB")),
    };
    let number: u64 =
        digits.parse().map_err(|_| format!("\"{digits}\" is not a whole number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than 2^64 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_multiples() {
        for (text, bytes) in
            [("1", 1), ("2k", 2048), ("3MiB", 3 << 20), ("1GB", 1 << 30), ("1t", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1.5G", "-1", "1Q", "99999999999999999999", "99999999999G"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
