use super::*;

fn from_lines(text: &str) -> Result<Keys, (usize, KeyError)> {
    let mut keys = Keys::default();
    keys.add_lines(text).map(|()| keys)
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |&(name, value): &(&'static str, &str)| {
        (http::HeaderName::from_static(name), HeaderValue::from_str(value).expect("visible"))
    };
    fields.iter().map(field).collect()
}

fn bearer(keys: &Keys, key: &str) -> Option<Caller> {
    keys.caller(&headers(&[("authorization", &format!("Bearer {key}"))]))
}

fn tenant(keys: &Keys, key: &str) -> Option<Tenant> {
    bearer(keys, key).expect("the key is known").0
}

#[test]
fn a_key_is_found_in_either_header_and_nothing_else_passes() {
    let mut keys = Keys::default();
    assert!(!keys.are_asked_for());
    keys.add("sesame").expect("a key");
    keys.add("se:same#2").expect("another");
    assert!(keys.are_asked_for());
    for good in [
        &[("authorization", "Bearer sesame")][..],
        &[("authorization", "bEARER sesame")],
        &[("x-api-key", "se:same#2")],
        &[("authorization", "Bearer wrong"), ("x-api-key", "sesame")],
    ] {
        assert!(keys.caller(&headers(good)).is_some(), "{good:?}");
    }
    for bad in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer sesam")],
        &[("authorization", "Bearer sesames")],
        &[("authorization", "Bearer  sesame")],
        &[("authorization", "Basic sesame")],
        &[("authorization", "sesame")],
        &[("x-api-key", "")],
        &[("x-api-key", "Bearer sesame")],
        &[("authorization", "Bearer wrong"), ("x-api-key", "wrong")],
    ] {
        assert_eq!(keys.caller(&headers(bad)), None, "{bad:?}");
    }
}

#[test]
fn lines_give_keys_with_owners_and_weights() {
    let text = "# key owner weight\n\n sk-1 search 3\r\nsk-2\tsearch\nsk-3 chat 3\nsk-4\nsk-5\n";
    let keys = from_lines(text).expect("all are good");
    let [one, two, three, four, five] =
        ["sk-1", "sk-2", "sk-3", "sk-4", "sk-5"].map(|key| tenant(&keys, key).expect("several"));
    assert_eq!(one, two);
    assert_eq!([one.weight, three.weight, four.weight, five.weight], [3, 3, 1, 1]);
    let mut ids = [one.id, three.id, four.id, five.id];
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let named = Tenant::named(b"mallory");
    assert_eq!(bearer(&keys, "sk-1").expect("known").tenant_or(named), one);
}

#[test]
fn keys_of_one_owner_leave_it_to_the_request() {
    let named = Tenant::named(b"alice");
    for text in ["sk-1", "sk-1 all\nsk-2 all"] {
        let keys = from_lines(text).expect("good");
        assert_eq!(bearer(&keys, "sk-1").expect("known").tenant_or(named), named);
    }
}

#[test]
fn lines_that_cannot_be_meant_are_refused_with_their_number() {
    let longest = "k".repeat(KEY_BYTES);
    let owner_of_most = format!("{longest} {} {KEY_WEIGHT}", "o".repeat(KEY_OWNER_BYTES));
    for good in [&longest, &owner_of_most] {
        assert!(from_lines(good).is_ok(), "{good}");
    }
    let too_many = (0..=KEYS).map(|number| format!("sk-{number}\n")).collect::<String>();
    let owner = |name: &str| KeyError::Owner { name: name.to_owned() };
    let weight = |text: &str| KeyError::Weight { weight: text.to_owned() };
    for (text, line, error) in [
        ("", 1, KeyError::Empty),
        ("# sk-1\n\n", 1, KeyError::Empty),
        ("sk-1\nsk-é\n", 2, KeyError::Form { bytes: 5 }),
        ("sk-\u{1b}[2J", 1, KeyError::Form { bytes: 7 }),
        (&format!("{longest}k"), 1, KeyError::Form { bytes: KEY_BYTES + 1 }),
        ("sk-1\nsk-2\nsk-1 a", 3, KeyError::Twice),
        ("sk-1 a/b", 1, owner("a/b")),
        ("sk-1 é", 1, owner("é")),
        (
            &format!("sk-1 {}", "o".repeat(KEY_OWNER_BYTES + 1)),
            1,
            owner(&"o".repeat(KEY_OWNER_BYTES + 1)),
        ),
        ("sk-1 a 0", 1, weight("0")),
        ("sk-1 a 1001", 1, weight("1001")),
        ("sk-1 a -1", 1, weight("-1")),
        ("sk-1 a 2\nsk-2 a 3", 2, KeyError::TwoWeights { owner: "a".to_owned() }),
        ("sk-1 a 2 x", 1, KeyError::Line),
        (&too_many, KEYS + 1, KeyError::TooMany),
    ] {
        let refused = from_lines(text).expect_err(text);
        assert_eq!(refused, (line, error), "{text:?}");
        assert!(!refused.1.to_string().contains("sk-"), "{}", refused.1);
    }
}

#[test]
fn each_of_all_the_keys_that_there_may_be_is_found() {
    let keys = from_lines(&(0..KEYS).map(|number| format!("sk-{number}\n")).collect::<String>());
    let keys = keys.expect("not too many");
    let mut ids: Vec<u64> = (0..KEYS)
        .map(|number| tenant(&keys, &format!("sk-{number}")).expect("several").id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), KEYS);
    assert_eq!(bearer(&keys, &format!("sk-{KEYS}")), None);
}

#[test]
fn keys_are_not_shown() {
    let keys = from_lines("sesame\nopen door").expect("good");
    assert_eq!(format!("{keys:?}"), "Keys(2 of 2 owners)");
}
