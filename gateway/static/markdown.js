// Markdown of a model's answer -> a plain tree of {tag, attrs, kids}. Nothing here touches the DOM or makes HTML: the
// page builds elements from the tree, with text as text, so whatever a model writes stays text.
//
// `parse(text, open)` is made for text that is still growing: with `open` an unfinished **bold, `code` or [link](htt
// at the very end is already shown as what it is going to be.

const DEEPEST = 8; // levels of lists and quotes; below, text is text
const LONGEST = 20_000; // characters of one paragraph that are looked at for emphasis and links

/**
 * Return the top-level blocks as [{source, node}]; an equal `source` means an equal `node`. A node is made when it is
 * asked for: a page that shows a growing answer asks, frame after frame, only for those that are new to it.
 */
export function parse(text, open = false) {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (blank(lines[at])) {
      at += 1;
      continue;
    }
    const end = endOfBlock(lines, at);
    const live = open && end >= lines.length;
    const own = lines.slice(at, end);
    blocks.push({
      source: (live ? '\0' : '') + own.join('\n'),
      get node() {
        return block(own, live, 0);
      },
    });
    at = end;
  }
  return blocks;
}

const blank = (line) => line.trim() === '';
const indent = (line) => line.length - line.trimStart().length;
const fenceOf = (line) => /^ {0,3}(`{3,}|~{3,})([^`]*)$/.exec(line);
const headingOf = (line) => /^ {0,3}(#{1,6})(?:[ \t]|$)/.exec(line);
const itemOf = (line) => /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/.exec(line);
const isRule = (line) => /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/.test(line);
const isQuote = (line) => /^ {0,3}>/.test(line);
const isDivider = (line) => line?.includes('-') && line.includes('|') && /^[ \t|:-]+$/.test(line);
const isTable = (lines, at) =>
  lines[at].includes('|') && isDivider(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length;
const startsBlock = (line) => fenceOf(line) || headingOf(line) || isRule(line) || isQuote(line);

function endOfBlock(lines, at) {
  const first = lines[at];
  const fence = fenceOf(first);
  let end = at + 1;
  if (fence) {
    while (end < lines.length && !closes(lines[end], fence[1])) end += 1;
    return Math.min(end + 1, lines.length);
  }
  if (headingOf(first) || isRule(first)) return end;
  if (isQuote(first)) {
    while (end < lines.length && (isQuote(lines[end]) || !(blank(lines[end]) || startsBlock(lines[end])))) end += 1;
  } else if (itemOf(first)) {
    end = endOfList(lines, at);
  } else if (isTable(lines, at)) {
    while (end < lines.length && !blank(lines[end]) && lines[end].includes('|')) end += 1;
  } else {
    while (end < lines.length && !blank(lines[end]) && !interrupts(lines, end)) end += 1;
  }
  return end;
}

const closes = (line, fence) =>
  line.trim().startsWith(fence) && line.trim().replaceAll(fence[0], '') === '' && indent(line) < 4;
const interrupts = (lines, at) =>
  startsBlock(lines[at]) || /^ {0,3}([-*+]|1[.)]) +\S/.test(lines[at]) || isTable(lines, at);

function endOfList(lines, at) {
  const kind = /\d/.test(itemOf(lines[at])[2]);
  let end = at + 1;
  for (let inside = true; end < lines.length; end += 1) {
    const line = lines[end];
    const item = itemOf(line);
    if (blank(line)) inside = false;
    else if (item && !isRule(line) && /\d/.test(item[2]) === kind) inside = true;
    else if (indent(line) < 2 && (!inside || item || startsBlock(line))) break;
  }
  while (blank(lines[end - 1])) end -= 1;
  return end;
}

function block(lines, open, depth) {
  const first = lines[0];
  const fence = fenceOf(first);
  if (fence) {
    const closed = lines.length > 1 && closes(lines.at(-1), fence[1]);
    const code = lines.slice(1, closed ? -1 : undefined).join('\n');
    return { tag: 'pre', attrs: { lang: fence[2].trim().split(/\s/)[0] }, kids: [{ tag: 'code', kids: [code] }] };
  }
  const heading = headingOf(first);
  if (heading) {
    // an answer stands below the page's own headings
    const text = first
      .trim()
      .slice(heading[1].length)
      .replace(/[ \t]#+$/, '')
      .trim();
    return { tag: `h${Math.min(heading[1].length + 2, 6)}`, kids: inline(text, open) };
  }
  if (isRule(first)) return { tag: 'hr', kids: [] };
  if (depth < DEEPEST && isQuote(first)) {
    return {
      tag: 'blockquote',
      kids: nested(
        lines.map((line) => line.replace(/^ {0,3}> ?/, '')),
        open,
        depth,
      ),
    };
  }
  if (depth < DEEPEST && itemOf(first)) return list(lines, open, depth);
  if (lines.length > 1 && isTable(lines, 0)) return table(lines, open);
  return { tag: 'p', kids: inline(lines.map((line) => line.trimStart()).join('\n'), open) };
}

function nested(lines, open, depth) {
  const nodes = [];
  for (let at = 0; at < lines.length;) {
    if (blank(lines[at])) {
      at += 1;
      continue;
    }
    const end = endOfBlock(lines, at);
    nodes.push(block(lines.slice(at, end), open && end >= lines.length, depth + 1));
    at = end;
  }
  return nodes;
}

function list(lines, open, depth) {
  const [, , marker] = itemOf(lines[0]);
  const ordered = /\d/.test(marker);
  const items = [];
  let width = 0;
  for (const line of lines) {
    const item = itemOf(line);
    if (item && (items.length === 0 || indent(line) < Math.min(width, 2))) {
      width = item[0].length;
      items.push([line.slice(width)]);
    } else items.at(-1).push(line.slice(Math.min(indent(line), width)));
  }
  const kids = items.map((item, n) => {
    const inner = nested(item, open && n === items.length - 1, depth);
    if (inner[0]?.tag === 'p' && !item.some(blank)) inner.splice(0, 1, ...inner[0].kids); // a tight list
    return { tag: 'li', kids: inner };
  });
  return { tag: ordered ? 'ol' : 'ul', attrs: ordered ? { start: parseInt(marker, 10) } : {}, kids };
}

const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, '')
    .replaceAll('\\|', '\0')
    .split('|')
    .map((cell) => cell.replaceAll('\0', '|').trim());

function table(lines, open) {
  const align = cells(lines[1]).map((cell) =>
    cell.endsWith(':') ? (cell.startsWith(':') ? 'center' : 'right') : 'left',
  );
  const row = (line, tag, last) => {
    const own = cells(line);
    const kids = align.map((side, n) => ({ tag, attrs: { class: side }, kids: inline(own[n] ?? '', open && last) }));
    return { tag: 'tr', kids };
  };
  const body = lines.slice(2).map((line, n) => row(line, 'td', n === lines.length - 3));
  return {
    tag: 'table',
    kids: [
      { tag: 'thead', kids: [row(lines[0], 'th', false)] },
      { tag: 'tbody', kids: body },
    ],
  };
}

/** Return the kids of a run of text: strings and nodes. */
function inline(text, open, depth = 0) {
  if (text.length > LONGEST || depth > DEEPEST) return [text];
  const kids = [];
  const none = new Set(); // delimiters that have no closer from here on: looked for once, not at each place
  let plain = '';
  let at = 0;
  const add = (node, to) => {
    if (plain) kids.push(plain);
    plain = '';
    kids.push(node);
    at = to;
  };
  while (at < text.length) {
    const found = special(text, at, open, depth, none);
    if (found) add(found.node, found.to);
    else if (text[at] === '\\' && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) {
      plain += text[at + 1];
      at += 2;
    } else {
      const mark = '`*_~'.includes(text[at]);
      const run = mark ? runAt(text, at) : text[at]; // it opens nothing: text
      if (!mark || !open || at + run.length < text.length) plain += run; // what it opens or closes is still to come
      at += run.length;
    }
  }
  if (plain) kids.push(plain);
  return kids;
}

function special(text, at, open, depth, none) {
  switch (text[at]) {
    case '`':
      return codeSpan(text, at, open, none);
    case '*':
    case '_':
    case '~':
      return emphasis(text, at, open, depth, none);
    case '!':
      return text[at + 1] === '[' ? link(text, at + 1, open, depth) : null;
    case '[':
      return link(text, at, open, depth);
    case '<': {
      const broken = /^<br *\/?>/i.exec(text.slice(at, at + 9)); // the only way to break a line within a table's cell
      return broken ? { node: { tag: 'br', kids: [] }, to: at + broken[0].length } : bareLink(text, at);
    }
    case 'h':
      return bareLink(text, at);
    case '\\':
      return text[at + 1] === '\n' ? { node: { tag: 'br', kids: [] }, to: at + 2 } : null;
    case '\n':
      return text.slice(0, at).endsWith('  ') ? { node: { tag: 'br', kids: [] }, to: at + 1 } : null;
    default:
      return null;
  }
}

const runAt = (text, at) => {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return text.slice(at, end);
};

function codeSpan(text, at, open, none) {
  const run = runAt(text, at);
  const from = at + run.length;
  let end = none.has(run) ? -1 : text.indexOf(run, from);
  while (end >= 0 && runAt(text, end).length !== run.length) end = text.indexOf(run, end + runAt(text, end).length);
  if (end < 0) none.add(run);
  if (end < 0 && !(open && from < text.length)) return null;
  const code = text.slice(from, end < 0 ? undefined : end).replaceAll('\n', ' ');
  const trimmed = code.startsWith(' ') && code.endsWith(' ') && code.trim() ? code.slice(1, -1) : code;
  return { node: { tag: 'code', kids: [trimmed] }, to: end < 0 ? text.length : end + run.length };
}

const TAGS = { '*': ['em', 'strong'], _: ['em', 'strong'], '~': [null, 'del'] };
const isWord = (c) => c !== undefined && /[\p{L}\p{N}]/u.test(c);

function emphasis(text, at, open, depth, none) {
  const run = runAt(text, at);
  const size = Math.min(run.length, 3);
  const mark = run.slice(0, size);
  const from = at + run.length;
  const [before, after] = [text[at - 1], text[from]];
  if (run.length > 3 || after === undefined || /\s/.test(after) || (run[0] === '_' && isWord(before))) return null;
  if (run[0] === '~' && size !== 2) return null;
  let end = none.has(mark) ? -1 : closer(text, mark, from);
  if (end < 0) none.add(mark);
  const growing = end < 0 && open && !isWord(before);
  if (end < 0 && !growing) return null;
  const [one, two] = TAGS[run[0]];
  const kids = inline(text.slice(from, growing ? undefined : end), growing, depth + 1);
  const node = size === 3 ? { tag: one, kids: [{ tag: two, kids }] } : { tag: size === 2 ? two : one, kids };
  return { node, to: growing ? text.length : end + size };
}

function closer(text, mark, from) {
  for (let at = text.indexOf(mark, from + 1); at >= 0;) {
    const run = runAt(text, at);
    const fits = run.length === mark.length || (run.length === 3 && mark.length < 3);
    const inWord = mark[0] === '_' && isWord(text[at + run.length]);
    // of a run of three the last characters close what was opened first
    if (fits && !inWord && !/\s/.test(text[at - 1])) return at + run.length - mark.length;
    at = text.indexOf(mark, at + run.length);
  }
  return -1;
}

function link(text, at, open, depth) {
  const end = bracketEnd(text, at);
  if (end < 0) return null;
  const label = text.slice(at + 1, end);
  const rest = text.slice(end + 1, end + 2100);
  const target = /^\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(rest);
  if (!target)
    return open && /^\([^)\n]*$/.test(rest)
      ? { node: { tag: 'span', kids: inline(label, false, depth + 1) }, to: text.length }
      : null;
  const kids = inline(label, false, depth + 1);
  const href = safeUrl(target[1]);
  return { node: href ? anchor(href, kids) : { tag: 'span', kids }, to: end + 1 + target[0].length };
}

function bracketEnd(text, at) {
  let level = 0;
  for (let end = at; end < Math.min(text.length, at + 1000); end += 1) {
    if (text[end] === '\\') end += 1;
    else if (text[end] === '[') level += 1;
    else if (text[end] === ']' && --level === 0) return end;
  }
  return -1;
}

function bareLink(text, at) {
  const bracketed = text[at] === '<';
  if (!bracketed && isWord(text[at - 1])) return null;
  const found = (bracketed ? /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/ : /^(https?:\/\/[^\s<>]+)/).exec(
    text.slice(at, at + 2100),
  );
  if (!found) return null;
  const url = bracketed ? found[1] : found[1].replace(/[.,;:!?'"*_~)\]]+$/, '');
  const href = safeUrl(url);
  return href ? { node: anchor(href, [url]), to: at + (bracketed ? found[0].length : url.length) } : null;
}

/** Only what opens a page or a mail; never a script, never something relative to this page. */
function safeUrl(text) {
  const url = URL.canParse?.(text) === false ? null : tryUrl(text);
  return url && ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
}

function tryUrl(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

const anchor = (href, kids) => ({
  tag: 'a',
  attrs: { href, target: '_blank', rel: 'noopener noreferrer nofollow' },
  kids,
});
