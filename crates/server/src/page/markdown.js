// The part of Markdown that models write most: code blocks, headings, lists, bold, italics and inline
// code. The text never becomes HTML: every character of it ends in a text node. No links and no
// images, which would let an answer call other hosts.

/** Shows `text` in `container`. Blocks that are as they were keep their elements, so that a growing
 * answer costs its last block only, and what the reader has selected stays selected. */
export function render(container, text) {
  const found = blocks(text);
  found.forEach((block, index) => {
    const old = container.children[index];
    if (old && old.source === block.source && old.kind === block.kind) return;
    const element = BUILD[block.kind](block);
    Object.assign(element, { source: block.source, kind: block.kind });
    if (old) old.replaceWith(element);
    else container.append(element);
  });
  while (found.length < container.children.length) container.lastChild.remove();
}

const FENCE = /^\s*(```+|~~~+)\s*([^\s`]*)/;
const HEADING = /^(#{1,6})\s+(.*)/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)/;

/** The blocks of `text`: kind, source (all that it depends on) and parts. */
export function blocks(text) {
  const found = [];
  const lines = text.split("\n");
  let at = 0;
  const take = (belongs) => {
    const from = at;
    while (at < lines.length && belongs(lines[at])) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const fence = FENCE.exec(line);
    if (line.trim() === "") {
      at += 1;
    } else if (fence) {
      at += 1;
      const body = take((next) => !(next.trim().startsWith(fence[1]) && /^[`~]+$/.test(next.trim())));
      at += 1;
      found.push({ kind: "code", source: `${fence[2]}\n${body.join("\n")}`, language: fence[2], body });
    } else if (HEADING.test(line)) {
      at += 1;
      found.push({ kind: "heading", source: line });
    } else if (ITEM.test(line)) {
      const body = take((next) => ITEM.test(next) || (/^\s+\S/.test(next) && !FENCE.test(next)));
      found.push({ kind: "list", source: body.join("\n"), body });
    } else {
      const special = (next) => next.trim() === "" || [FENCE, HEADING, ITEM].some((mark) => mark.test(next));
      const body = take((next) => !special(next));
      found.push({ kind: "paragraph", source: body.join("\n") });
    }
  }
  return found;
}

const BUILD = {
  paragraph: ({ source }) => inline(document.createElement("p"), source),
  heading({ source }) {
    const [, marks, text] = HEADING.exec(source);
    return inline(document.createElement(`h${Math.min(3 + marks.length, 6)}`), text);
  },
  list({ body }) {
    const list = document.createElement("ul");
    for (const line of body) {
      const item = ITEM.exec(line);
      if (!item) {
        inline(list.lastChild, ` ${line.trim()}`);
        continue;
      }
      const entry = inline(document.createElement("li"), item[3]);
      const marker = /\d/.test(item[2]) ? item[2] : "•";
      entry.style.listStyleType = `"${marker} "`;
      entry.style.marginInlineStart = `${Math.min(item[1].length, 12) / 2}em`;
      list.append(entry);
    }
    return list;
  },
  code({ language, body }) {
    const element = document.createElement("div");
    element.className = "code";
    const bar = document.createElement("div");
    bar.className = "bar";
    const name = document.createElement("span");
    name.textContent = language || "code";
    const text = document.createElement("code");
    text.textContent = body.join("\n");
    bar.append(name, copyButton(() => text.textContent));
    const pre = document.createElement("pre");
    pre.tabIndex = 0;
    pre.append(text);
    element.append(bar, pre);
    return element;
  },
};

const MARKS = /(`+)(.+?)\1|\*\*(.+?)\*\*|(?<![\w*])\*([^\s*][^*\n]*)\*(?![\w*])/g;

/** Appends `text` to `parent`, with its marks as elements. */
function inline(parent, text) {
  let from = 0;
  for (const mark of text.matchAll(MARKS)) {
    parent.append(text.slice(from, mark.index));
    const [all, , code, bold, italic] = mark;
    const element = document.createElement(code !== undefined ? "code" : bold !== undefined ? "strong" : "em");
    if (code !== undefined) element.textContent = code;
    else inline(element, bold ?? italic);
    parent.append(element);
    from = mark.index + all.length;
  }
  parent.append(text.slice(from));
  return parent;
}

/** A button that copies what `text()` gives when it is pressed. */
export function copyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text())) ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

/** Browsers give pages the clipboard over https and on this machine only; elsewhere the older way. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}
