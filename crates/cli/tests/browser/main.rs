//! The server's page in headless Chromium, against the real server. Needs Chromium; run with
//! `cargo test -p millrace --features browser --test browser`.

mod server;

use std::path::Path;

use chromium::{Chromium, View};
use serde_json::json;
use server::Server;

const WIDE: View = View { width: 1280, height: 800, theme: "light" };
const VIEWS: [View; 4] = [
    WIDE,
    View { theme: "dark", ..WIDE },
    View { width: 400, ..WIDE },
    View { width: 400, theme: "dark", ..WIDE },
];

/// The page, once it knows what is served.
fn opened(server: &Server, view: View) -> Chromium {
    let mut page = Chromium::start();
    page.open(&server.url, view);
    page.until("document.querySelector('#model').textContent.includes('smollm2')");
    make_greedy(&mut page);
    page
}

/// Greedy answers of these weights repeat themselves to the end of the context: none ends by itself
/// while a test looks at it.
fn make_greedy(page: &mut Chromium) {
    set(page, "temperature", "0");
}

/// Asks by keyboard.
fn ask(page: &mut Chromium, question: &str) {
    page.value("document.querySelector('#question').focus()");
    page.write(question);
    page.press("Enter", 0);
}

fn set(page: &mut Chromium, field: &str, value: &str) {
    page.value(&format!(
        "(field => {{
            field.value = '{value}';
            field.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})(document.querySelector('#{field}'))"
    ));
}

fn text(page: &mut Chromium, selector: &str) -> String {
    let found = page.value(&format!("document.querySelector('{selector}')?.textContent"));
    found.as_str().unwrap_or_else(|| panic!("no {selector}")).to_owned()
}

fn click(page: &mut Chromium, selector: &str) {
    page.value(&format!("document.querySelector('{selector}').click()"));
}

/// Keeps what is seen in the build's folder for temporary files, for who wants to look.
fn picture(page: &mut Chromium, name: &str) {
    page.picture(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("png"));
}

const ANSWERING: &str = "document.querySelector('.turn[aria-busy=true] .text')?.textContent";
const AT_REST: &str = "document.querySelector('#stop').hidden";
const LAST: &str = ".turn:last-child";

/// Nothing went wrong that a developer would see, and nobody else was asked for anything.
fn assert_quiet(page: &Chromium, server: &Server) {
    assert_eq!(page.complaints, [""; 0]);
    for request in &page.requests {
        assert!(request.starts_with(&server.url), "{request} was asked for");
    }
}

#[test]
fn an_answer_streams_and_stops_in_every_view() {
    let server = Server::start(&[]);
    for view in VIEWS {
        let mut page = opened(&server, view);
        ask(&mut page, "What is a mill race?");
        page.until(ANSWERING);
        page.until("document.querySelector('#live-running').textContent === '1 / 50'");
        page.until("0 < parseFloat(document.querySelector('#live-rate').textContent)");
        page.until("0 < parseFloat(document.querySelector('#live-kv').textContent)");
        assert_eq!(text(&mut page, ".turn.user .text"), "What is a mill race?");
        picture(&mut page, &format!("answering-{}-{}", view.width, view.theme));
        let width = page.value("document.documentElement.scrollWidth");
        assert!(width.as_u64() <= Some(u64::from(view.width)), "{view:?}: {width} wide");
        page.press("Escape", 0);
        page.until(AT_REST);
        let readout = text(&mut page, &format!("{LAST} .readout"));
        assert!(readout.ends_with("stopped by you"), "{readout}");
        assert!(readout.contains(" tokens") && readout.contains("first after "), "{readout}");
        page.until("document.querySelector('#live-running').textContent === '0 / 50'");
        assert_ne!(text(&mut page, "#live-ttft"), "–");
        let background = page.value("getComputedStyle(document.body).backgroundColor");
        let expected = if view.theme == "light" { "rgb(246, 247, 248)" } else { "rgb(20, 24, 27)" };
        assert_eq!(background, expected);
        picture(&mut page, &format!("stopped-{}-{}", view.width, view.theme));
        assert_quiet(&page, &server);
    }
}

#[test]
fn a_conversation_goes_on_and_is_kept_until_it_is_cleared() {
    let server = Server::start(&[]);
    let mut page = opened(&server, WIDE);
    set(&mut page, "max_tokens", "8");
    set(&mut page, "system", "Be brief.");
    page.write("one");
    page.press("Enter", 8);
    page.write("two");
    page.press("Enter", 0);
    page.until(&format!("{AT_REST} && document.querySelector('{LAST} .readout span')"));
    assert_eq!(text(&mut page, ".turn.user .text"), "one\ntwo");
    let readout = text(&mut page, &format!("{LAST} .readout"));
    for part in ["8 tokens", "tokens/s", "queue", "prefill", "decode", "prompt", "limit of tokens"]
    {
        assert!(readout.contains(part), "{readout} lacks {part}");
    }
    let answer = text(&mut page, &format!("{LAST} .text"));
    click(&mut page, &format!("{LAST} .again"));
    page.until(&format!("{AT_REST} && document.querySelector('{LAST} .readout span')"));
    assert_eq!(text(&mut page, &format!("{LAST} .text")), answer, "greedy, so the same again");
    ask(&mut page, "three");
    page.until(&format!("{AT_REST} && document.querySelectorAll('.readout span').length > 12"));
    page.reload();
    page.until("document.querySelector('#model').textContent.includes('smollm2')");
    assert_eq!(page.value("document.querySelectorAll('.turn').length"), 4);
    assert_eq!(text(&mut page, ".turn:nth-child(3) .text"), answer);
    assert_eq!(page.value("document.querySelector('#max_tokens').value"), "8");
    click(&mut page, "#theme");
    click(&mut page, "#theme");
    let background = page.value("getComputedStyle(document.body).backgroundColor");
    assert_eq!(background, "rgb(20, 24, 27)", "dark by choice");
    click(&mut page, "#clear");
    assert_eq!(page.value("document.querySelectorAll('.turn').length"), 0);
    assert_quiet(&page, &server);
}

#[test]
fn a_reader_who_has_scrolled_up_is_left_there() {
    let server = Server::start(&[]);
    let mut page = opened(&server, View { width: 400, height: 500, theme: "light" });
    ask(&mut page, "Go on and on.");
    let log = "document.querySelector('#log')";
    page.until(&format!("{log}.scrollHeight > {log}.clientHeight + 300"));
    page.until(&format!("{log}.scrollHeight - {log}.scrollTop - {log}.clientHeight < 2"));
    page.value(&format!("{log}.scrollTop = 50"));
    let height = page.value(&format!("{log}.scrollHeight"));
    page.until(&format!("{log}.scrollHeight > {height} + 100"));
    assert_eq!(page.value(&format!("{log}.scrollTop")), 50);
    click(&mut page, "#latest");
    page.until(&format!("{log}.scrollHeight - {log}.scrollTop - {log}.clientHeight < 2"));
    assert_quiet(&page, &server);
}

#[test]
fn the_figures_rest_while_nobody_looks() {
    let server = Server::start(&[]);
    let mut page = opened(&server, WIDE);
    let look_away = |page: &mut Chromium, hidden: bool| {
        page.value(&format!(
            "Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    let asked = "performance.getEntriesByType('resource').filter(r => r.name.endsWith('/metrics'))";
    page.until(&format!("1 < {asked}.length"));
    look_away(&mut page, true);
    assert_eq!(text(&mut page, "#live-state"), "paused");
    // A reading that was on its way ends first; then two periods are waited for.
    page.value("new Promise(done => setTimeout(done, 500))");
    let before = page.value(&format!("{asked}.length"));
    page.value("new Promise(done => setTimeout(done, 2500))");
    assert_eq!(page.value(&format!("{asked}.length")), before);
    assert_eq!(text(&mut page, "#live-state"), "paused");
    look_away(&mut page, false);
    page.until(&format!("{before} + 1 < {asked}.length"));
    assert_eq!(text(&mut page, "#live-state"), "");
    assert_quiet(&page, &server);
}

#[test]
fn refusals_and_broken_connections_are_told_in_words() {
    let options = ["--api-key", "secret", "--max-num-seqs", "1", "--max-num-queued-reqs", "0"];
    let mut server = Server::start(&options);
    let mut page = Chromium::start();
    page.open(&server.url, WIDE);
    make_greedy(&mut page);
    page.until("!document.querySelector('#key').hidden");
    picture(&mut page, "key");
    for (key, hidden) in [("wrong", false), ("secret", true)] {
        page.value("document.querySelector('#key-field').focus()");
        page.write(key);
        page.press("Enter", 0);
        if hidden {
            page.until("document.querySelector('#key').hidden");
        } else {
            page.until("document.querySelector('#key-hint').textContent.includes('does not take')");
        }
    }
    assert_eq!(page.value("localStorage.length"), 0, "the key is kept for the tab only");
    let mut other = opened_with_key(&server);
    ask(&mut other, "Go on and on.");
    other.until(ANSWERING);
    page.until("document.querySelector('#live-running').textContent === '1 / 1'");
    ask(&mut page, "And me?");
    page.until("document.querySelector('.failure')");
    let words = text(&mut page, ".failure p");
    assert!(words.starts_with("The server is full. 1 requests are running"), "{words}");
    picture(&mut page, "full");
    other.press("Escape", 0);
    page.until("document.querySelector('#live-running').textContent === '0 / 1'");
    page.until("!document.querySelector('.retry').disabled");
    click(&mut page, ".retry");
    page.until(ANSWERING);
    assert_eq!(page.value("document.querySelector('.failure')"), json!(null));
    server.kill();
    page.until("document.querySelector('.failure')");
    let words = text(&mut page, ".failure p");
    assert_eq!(words, "The connection was lost in the middle of the answer.");
    assert!(text(&mut page, ".turn.assistant .readout").ends_with("broken off"));
    page.until("document.querySelector('#live-state').textContent.includes('out of reach')");
    click(&mut page, ".retry");
    page.until("document.querySelector('.failure p')?.textContent.includes('cannot be reached')");
    // What there was of an answer is still there.
    assert!(text(&mut page, ".turn.assistant .readout").ends_with("broken off"));
    picture(&mut page, "lost");
}

fn opened_with_key(server: &Server) -> Chromium {
    let mut page = Chromium::start();
    page.open(&server.url, WIDE);
    page.until("!document.querySelector('#key').hidden");
    make_greedy(&mut page);
    page.value("document.querySelector('#key-field').focus()");
    page.write("secret");
    page.press("Enter", 0);
    page.until("document.querySelector('#key').hidden");
    page
}

#[test]
fn an_answer_is_shown_as_text_with_blocks_and_never_as_markup() {
    let server = Server::start(&[]);
    let mut page = opened(&server, WIDE);
    let shown = page.value(
        r##"import("./page/markdown.js").then(({ render }) => {
            const box = document.createElement("div");
            document.querySelector("#log").append(box);
            box.className = "text turn assistant";
            const text = "# Head *x*\n\n<img src=x onerror=alert(1)> **bold** and `a <b> c`\n"
                + "second line [link](http://elsewhere.example/)\n- one\n  - two\n3. three\n"
                + "```rust\nfn main() { \"<script>\" }\n\n```\nafter\n~~~\nopen **end**";
            render(box, text.slice(0, 30));
            render(box, text);
            const kinds = [...box.children].map(child => child.tagName + ":" + child.textContent);
            return [kinds, box.querySelectorAll("img, script, a, b").length,
                box.querySelector("strong").textContent, box.querySelector("pre").textContent];
        })"##,
    );
    let paragraph = "P:<img src=x onerror=alert(1)> bold and a <b> c\n\
                     second line [link](http://elsewhere.example/)";
    let expected = json!([
        [
            "H4:Head x",
            paragraph,
            "UL:onetwothree",
            "DIV:rustCopyfn main() { \"<script>\" }\n",
            "P:after",
            "DIV:codeCopyopen **end**",
        ],
        0,
        "bold",
        "fn main() { \"<script>\" }\n",
    ]);
    assert_eq!(shown, expected);
    picture(&mut page, "markdown");
    // The browser holds the page to it.
    let refused = page.value(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; } })()",
    );
    assert_eq!(refused, "TypeError");
}
