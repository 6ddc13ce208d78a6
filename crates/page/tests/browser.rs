//! The page in a browser: it asks for nothing, complains of nothing and can be read, on a wide
//! screen and on a telephone, light and dark. Needs Chromium; run with
//! `cargo test -p page --features browser`. The pages are kept in the build's folder for temporary
//! files, for who wants to look at them.

mod simulated;

use std::fs;
use std::path::PathBuf;

use chromium::{Chromium, View};
use serde_json::{Value, json};
use simulated::{Run, SEED, SMALL, hostile, scheduled, silent};

const VIEWS: [View; 4] = [
    View { width: 1280, height: 800, theme: "light" },
    View { width: 1280, height: 800, theme: "dark" },
    View { width: 400, height: 800, theme: "light" },
    View { width: 400, height: 800, theme: "dark" },
];

/// Writes a page where the browser can open it; gives its address.
fn kept(name: &str, html: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, html).expect("the folder for temporary files can be written");
    format!("file://{}", path.display())
}

/// Opens the page in every view and lets `check` look at it.
fn in_every_view(name: &str, html: &str, check: impl Fn(&mut Chromium, View)) {
    let url = kept(name, html);
    let mut browser = Chromium::start();
    for view in VIEWS {
        browser.open(&url, view);
        check(&mut browser, view);
        assert_eq!(browser.complaints, [""; 0], "{view:?}");
        assert_eq!(browser.requests, [url.as_str()], "{view:?}");
    }
}

/// Number of drawn shapes of each chart by the id of its figure.
const MARKS: &str = "Object.fromEntries([...document.querySelectorAll('figure')].map(f => [f.id, \
    Math.min(...[...f.querySelectorAll('.plot')].map(p => \
        p.querySelectorAll('.marks path, .marks rect').length))]))";

/// Labels of a chart that lie over each other, or beside the page.
const BAD_LABELS: &str = "[...document.querySelectorAll('.plot')].flatMap(plot => {
    const labels = [...plot.querySelectorAll('text')].filter(t => t.textContent)
        .map(t => [t.textContent, t.getBoundingClientRect()]).filter(([, r]) => r.width);
    const bad = labels.filter(([, r]) => r.left < 0 || innerWidth < r.right).map(([t]) => t);
    const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
        && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    labels.forEach(([t, r], i) => labels.slice(i + 1).forEach(([u, s]) => {
        if (over(r, s)) bad.push(t + ' over ' + u);
    }));
    return bad;
})";

/// Labels lie apart and on the page, at every level, and the page is no wider than the screen.
fn assert_readable(browser: &mut Chromium, view: View) {
    browser.value("document.querySelectorAll('.level').forEach(l => { l.hidden = false; })");
    assert_eq!(browser.value(BAD_LABELS), json!([]), "{view:?}");
    let width = browser.value("document.documentElement.scrollWidth");
    assert!(width.as_u64() <= Some(u64::from(view.width)), "{view:?}: the page is {width} wide");
}

fn marks(browser: &mut Chromium) -> Vec<(String, u64)> {
    let marks: Value = browser.value(MARKS);
    let marks = marks.as_object().expect("an object").iter();
    marks.map(|(id, count)| (id.clone(), count.as_u64().expect("a count"))).collect()
}

#[test]
fn the_seeds_protocol_is_drawn_whole() {
    in_every_view("seed.html", &Run::of(SEED).html(), |browser, view| {
        assert_readable(browser, view);
        let marks = marks(browser);
        let expected = ["throughput", "scaling", "ttft", "latency", "decomposition"];
        let each = (1..=6).flat_map(|n| [format!("requests-{n}"), format!("gaps-{n}")]);
        for id in expected.map(str::to_owned).into_iter().chain(each) {
            let drawn = marks.iter().find(|(found, _)| *found == id);
            assert!(drawn.is_some_and(|(_, count)| 1 <= *count), "{id} is empty: {marks:?}");
        }
        let bars =
            browser.value("document.querySelectorAll('#requests-6 .marks rect.queue').length");
        assert_eq!(bars, 320, "a bar for the queue of each request");
    });
}

#[test]
fn a_server_that_tells_nothing_is_drawn_from_what_the_client_saw() {
    in_every_view("silent.html", &silent().html(), |browser, view| {
        assert_readable(browser, view);
        let marks = marks(browser);
        assert!(marks.iter().all(|(_, count)| 1 <= *count), "{marks:?}");
        assert!(!marks.iter().any(|(id, _)| id == "decomposition"), "{marks:?}");
    });
}

#[test]
fn a_schedule_is_drawn_like_a_closed_loop_but_for_scaling() {
    in_every_view("scheduled.html", &scheduled().html(), |browser, view| {
        assert_readable(browser, view);
        let marks = marks(browser);
        assert!(marks.iter().all(|(_, count)| 1 <= *count), "{marks:?}");
        assert_eq!(marks.len(), 8, "all but scaling: {marks:?}");
    });
}

#[test]
fn hostile_text_is_shown_and_does_nothing() {
    in_every_view("hostile.html", &hostile().html(), |browser, view| {
        assert_readable(browser, view);
        assert_eq!(browser.value("window.broken"), Value::Null);
        assert_eq!(browser.value("document.images.length"), 0);
        let text = browser.value("document.body.textContent.includes('<img src=x onerror=')");
        assert_eq!(text, true);
    });
}

#[test]
fn buttons_choose_the_level_and_the_theme() {
    let mut browser = Chromium::start();
    let url = kept("buttons.html", &Run::of(SMALL).html());
    browser.open(&url, VIEWS[0]);
    let shown = "[...document.querySelectorAll('.level')].filter(l => !l.hidden).map(l => l.id)";
    assert_eq!(browser.value(shown), json!(["level-2"]), "the one that met the cap");
    browser.value("document.querySelector('[data-show=level-1]').click()");
    assert_eq!(browser.value(shown), json!(["level-1"]));
    let background = "getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.value(background);
    for (clicks, theme) in [(1, "light"), (2, "dark"), (3, "light")] {
        browser.value("document.getElementById('theme').click()");
        let is_light = browser.value(background) == light;
        assert_eq!(is_light, theme == "light", "after {clicks} clicks");
    }
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn everything_is_there_without_a_script() {
    let html = Run::of(SMALL).html();
    let (before, after) = html.split_once("<script>").expect("the page has a script");
    let (_, after) = after.split_once("</script>").expect("that ends");
    let mut browser = Chromium::start();
    browser.open(&kept("plain.html", &format!("{before}{after}")), VIEWS[0]);
    let visible = "[...document.querySelectorAll('.level')].filter(l => l.offsetHeight).length";
    assert_eq!(browser.value(visible), 2);
    let dead = "[...document.querySelectorAll('button')].filter(b => b.offsetHeight).length";
    assert_eq!(browser.value(dead), 0, "buttons that would do nothing are not shown");
}

#[test]
fn what_is_forbidden_would_be_seen() {
    let mut browser = Chromium::start();
    let bad = "<p>x</p><img src='nowhere.png'><script>console.log(1); missing()</script>";
    browser.open(&kept("bad.html", bad), VIEWS[0]);
    assert!(2 <= browser.complaints.len(), "{:?}", browser.complaints);
    assert_eq!(browser.requests.len(), 2, "{:?}", browser.requests);
    let policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">";
    browser.open(&kept("refused.html", &format!("{policy}{bad}")), VIEWS[0]);
    assert!(browser.complaints.iter().any(|text| text.contains("Content Security Policy")));
}
