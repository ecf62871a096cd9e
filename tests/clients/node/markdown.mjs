// Markdown: what it makes of what models write, and that nothing they write becomes anything but text.
import assert from 'node:assert/strict';
import { parse } from '../../../gateway/static/markdown.js';

const TAGS = new Set(
  'p h3 h4 h5 h6 ul ol li pre code blockquote hr br table thead tbody tr th td em strong del a span'.split(' '),
);
const ATTRIBUTES = new Set(['href', 'target', 'rel', 'class', 'start', 'lang']);

const show = node => {
  if (typeof node === 'string') return node;
  const href = node.attrs?.href ? ` ${node.attrs.href}` : '';
  return `<${node.tag}${href}>${node.kids.map(show).join('')}</${node.tag}>`;
};
const html = (text, open) => parse(text, open).map(({ node }) => show(node)).join('');

const CASES = [
  ['# One\n\ntext', '<h3>One</h3><p>text</p>'],
  ['###### Six ##', '<h6>Six</h6>'],
  ['#not a heading', '<p>#not a heading</p>'],
  ['a **b** *c* ***d*** ~~e~~ `f`', '<p>a <strong>b</strong> <em>c</em> <em><strong>d</strong></em> <del>e</del> <code>f</code></p>'],
  ['snake_case_name and 2 * 3 * 4', '<p>snake_case_name and 2 * 3 * 4</p>'],
  ['**a *b* c** and *d **e** f*', '<p><strong>a <em>b</em> c</strong> and <em>d <strong>e</strong> f</em></p>'],
  ['\\*no\\* \\`no\\`', '<p>*no* `no`</p>'],
  ['``a ` b``', '<p><code>a ` b</code></p>'],
  ['- a\n- b\n  - c\n- d', '<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>'],
  ['1. a\n2. b\n\n   more', '<ol><li>a</li><li><p>b</p><p>more</p></li></ol>'],
  ['text\n- item', '<p>text</p><ul><li>item</li></ul>'],
  ['> a\n> b\n\nc', '<blockquote><p>a\nb</p></blockquote><p>c</p>'],
  ['```py\nx = "<b>"\n\n# y\n```\nz', '<pre><code>x = "<b>"\n\n# y</code></pre><p>z</p>'],
  ['```\nnot closed', '<pre><code>not closed</code></pre>'],
  ['a\n\n---\n\nb', '<p>a</p><hr></hr><p>b</p>'],
  ['a<br>b<BR />c <br class=x> `<br>`', '<p>a<br></br>b<br></br>c <br class=x> <code><br></code></p>'],
  ['a  \nb\\\nc', '<p>a  <br></br>b<br></br>c</p>'],
  [
    '| A | B |\n| --- | ---: |\n| 1 | `|` |\n| 2 |',
    '<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>`</td></tr><tr><td>2</td><td></td></tr></tbody></table>',
  ],
  ['a | b\nno table', '<p>a | b\nno table</p>'],
  ['[t](https://e.org/a_(b)) <https://e.org> https://e.org/x.', '<p><a https://e.org/a_(b)>t</a> <a https://e.org/>https://e.org</a> <a https://e.org/x>https://e.org/x</a>.</p>'],
  ['![alt](https://e.org/i.png)', '<p><a https://e.org/i.png>alt</a></p>'],
];
for (const [text, expected] of CASES) assert.equal(html(text), expected, text);

// while it grows, an unfinished end is shown as what it is going to be
const GROWING = [
  ['a **b', '<p>a <strong>b</strong></p>'],
  ['a `b', '<p>a <code>b</code></p>'],
  ['see [here](https://e', '<p>see <span>here</span></p>'],
  ['**a\n\n**b', '<p>**a</p><p><strong>b</strong></p>'],
  ['a **', '<p>a </p>'],
  ['a **b*', '<p>a <strong>b</strong></p>'],
];
for (const [text, expected] of GROWING) assert.equal(html(text, true), expected, text);

// nothing but known elements and attributes, no address but http, https and mail, whatever comes
const check = node => {
  if (typeof node === 'string') return;
  assert.ok(TAGS.has(node.tag), node.tag);
  for (const [name, value] of Object.entries(node.attrs ?? {})) {
    assert.ok(ATTRIBUTES.has(name), name);
    if (name === 'href') assert.match(value, /^(https?:|mailto:)/);
    if (name === 'class') assert.match(value, /^(left|right|center)$/);
    if (name === 'start') assert.ok(Number.isInteger(value));
  }
  node.kids.forEach(check);
};
const PIECES = [
  ...'*_~`[]()<>!#|-:>\\\n "\'&', '**', '```', '\n\n', '  ', '- ', '1. ', '| a | b |\n| - | - |\n', 'word', 'https://e.org/',
  'javascript:alert(1)', '](javascript:alert(1))', '](data:text/html,x)', '<script>', '<img src=x onerror=x>', '\0', '\u2028',
  '[x](JaVaScRiPt:x)', '[x](//e.org)', '[x](/local)', '<javascript:x>', 'mailto:a@b', '\ud800',
];
let seed = 7;
const dice = n => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
for (let round = 0; round < 4000; round += 1) {
  const text = Array.from({ length: 1 + dice(24) }, () => PIECES[dice(PIECES.length)]).join('');
  for (const open of [false, true]) for (const { node } of parse(text, open)) check(node);
}

// the parts of a growing text that are over do not change any more
const long = CASES.map(([text]) => text).join('\n\n');
let before = [];
for (let end = 0; end <= long.length; end += 7) {
  const now = parse(long.slice(0, end), true);
  before.slice(0, -2).forEach(({ source }, at) => assert.equal(now[at].source, source));
  before = now;
}

// a page that has the nodes of what is over pays for its lines alone: not for its emphasis, links and lists, each frame
const quickest = (work) =>
  Math.min(
    ...Array.from({ length: 9 }, () => {
      const began = performance.now();
      work();
      return performance.now() - began;
    }),
  );
const answer = 'One **bold** [link](https://e.org) and `code`, *so* it goes on.\n\n- a **b**\n  - c `d`\n\n'.repeat(1500);
const whole = quickest(() => parse(answer, true).forEach(({ node }) => node));
assert.ok(quickest(() => parse(answer, true)) < whole / 2);

// hostile lengths take no more than a moment
for (const text of ['*a '.repeat(1e5), '['.repeat(1e5), '`'.repeat(1e5), '`a ``b '.repeat(2500), '**a'.repeat(6000), '> '.repeat(5e4), '|'.repeat(5e4) + '\n' + '-|'.repeat(5e4), '|a'.repeat(5e3) + '|\n' + '|-'.repeat(5e3) + '|\n' + '|b'.repeat(5e3), ' '.repeat(2e5), '- '.repeat(5e4)]) {
  const began = performance.now();
  parse(text, true).forEach(({ node }) => node);
  assert.ok(performance.now() - began < 3000, text.slice(0, 10));
}
console.log('ok');
