// From a folded message to elements. Model text only ever becomes text nodes; what has not changed is not touched.

import { parse } from './markdown.js';

/** Make an element: h('a.quiet', {href}, 'text', child). */
export function h(what, attrs = {}, ...kids) {
  const [tag, ...classes] = what.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  for (const [name, value] of Object.entries(attrs)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...kids.filter((kid) => kid !== null && kid !== undefined && kid !== false));
  return element;
}

function build(node) {
  if (typeof node === 'string') return document.createTextNode(node);
  const { tag, attrs = {}, kids } = node;
  if (tag === 'pre') return codeBlock(attrs.lang, kids);
  const element = h(tag, attrs, ...kids.map(build));
  return tag === 'table' ? h('div.table', { tabindex: 0, role: 'region', 'aria-label': 'Table' }, element) : element;
}

function codeBlock(lang, kids) {
  const pre = h('pre', { tabindex: 0 }, ...kids.map(build));
  const copy = copyButton(() => pre.textContent, 'Copy this code');
  return h('div.code', { dir: 'ltr' }, h('header', {}, h('span', {}, lang || 'text'), copy), pre);
}

/** A button that copies what `text()` returns and says for a moment whether it has. */
export function copyButton(text, label) {
  const button = h('button.small', { type: 'button', 'aria-label': label }, 'Copy');
  button.addEventListener('click', async () => {
    const done = await navigator.clipboard?.writeText(text()).then(() => true, () => false);
    button.textContent = done ? 'Copied' : 'Not copied'; // it may be forbidden, or not there without TLS
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  });
  return button;
}

const show = (value) => (typeof value === 'string' ? value : JSON.stringify(value, null, 2));

/** One part's element and how to bring it up to date. */
const VIEWS = {
  text: () => {
    const element = h('div.text');
    const blocks = [];
    return { element, update: ({ text, state }) => renderBlocks(element, blocks, parse(text, state === 'streaming')) };
  },
  reasoning: () => {
    const title = h('span');
    const inside = h('div.inside', { dir: 'auto' });
    const element = h('details.detail', {}, h('summary', {}, title), inside);
    const update = ({ text, state }) => {
      element.classList.toggle('busy', state === 'streaming');
      title.textContent = state === 'streaming' ? 'Thinking' : 'Thoughts';
      grow(inside, text);
    };
    return { element, update };
  },
  tool: (part) => {
    const state = h('span');
    const inside = h('div.inside');
    const name = h('code', {}, part.tool_name);
    const element = h('details.detail', {}, h('summary', {}, name, state), inside);
    const update = (now) => {
      const says = { 'input-streaming': 'being asked', 'input-available': 'asked', 'output-available': 'answered' };
      element.classList.toggle('busy', now.state === 'input-streaming');
      state.textContent = says[now.state] ?? 'failed';
      const input = now.input_text ?? (now.input === undefined ? '' : show(now.input));
      const output = now.error_text ?? (now.output === undefined ? '' : show(now.output));
      const block = (title, text) => text && [h('h4', {}, title), h('pre', {}, h('code', {}, text))];
      const blocks = [block('Input', input), block(now.error_text ? 'Error' : 'Output', output)];
      inside.replaceChildren(...blocks.filter(Boolean).flat());
    };
    return { element, update };
  },
  'source-url': (part) => {
    const safe = /^https?:/i.test(part.url);
    const attrs = { href: part.url, target: '_blank', rel: 'noopener noreferrer nofollow' };
    const label = part.title || part.url;
    return { element: h('div.sources', {}, safe ? h('a', attrs, label) : h('span', {}, label)), update() {} };
  },
  'source-document': (part) => ({ element: h('div.sources', {}, h('span', {}, part.title)), update() {} }),
  file: (part) => {
    const image = /^data:image\/(png|jpeg|gif|webp);base64,/.test(part.url);
    const attrs = { href: part.url, target: '_blank', rel: 'noopener noreferrer' };
    const link = /^https?:/i.test(part.url) ? h('a', attrs, part.media_type) : h('span', {}, part.media_type);
    return { element: image ? h('img', { src: part.url, alt: 'A generated image' }) : link, update() {} };
  },
  data: (part) => {
    const code = h('code');
    const element = h(
      'details.detail',
      {},
      h('summary', {}, h('code', {}, part.name)),
      h('div.inside', {}, h('pre', {}, code)),
    );
    return { element, update: ({ data }) => (code.textContent = show(data)) };
  },
};

function renderBlocks(element, blocks, fresh) {
  fresh.forEach((block, at) => {
    const [old, { source }] = [blocks[at], block];
    if (old?.source === source) return;
    const made = regrown(old?.element, block.node) ?? build(block.node);
    made.dir ||= 'auto'; // it runs as its own script does
    if (!old) element.append(made);
    else if (old.element !== made) old.element.replaceWith(made);
    blocks[at] = { source, element: made };
  });
  for (const { element: gone } of blocks.splice(fresh.length)) gone.remove();
}

/** Code that has grown stays the element that it was, or it would scroll back in every frame; null if it is another. */
function regrown(old, { tag, attrs, kids }) {
  if (tag !== 'pre' || !old?.matches('.code')) return null;
  if (old.querySelector('header span').textContent !== (attrs.lang || 'text')) return null;
  grow(old.querySelector('code'), kids[0].kids[0]);
  return old;
}

/** Append to a text node rather than replace it, so that a reader's selection stays. */
function grow(element, text) {
  const node = element.firstChild ?? element.appendChild(document.createTextNode(''));
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}

/** An answer's element, kept equal to a folded message. */
export class Answer {
  #parts = [];
  element = h('div.answer');

  update(message) {
    const parts = message.parts.filter((part) => VIEWS[part.type]);
    const keyOf = (part) => `${part.type} ${part.id ?? part.tool_call_id ?? part.source_id ?? part.name ?? ''}`;
    const same = parts.findIndex((part, at) => this.#parts[at]?.key !== keyOf(part));
    const keep = same < 0 ? parts.length : same;
    for (const { element } of this.#parts.splice(keep)) element.remove(); // a reset took them, or they are not yet there
    parts.forEach((part, at) => {
      const view = (this.#parts[at] ??= { key: keyOf(part), ...VIEWS[part.type](part) });
      if (!view.element.isConnected || view.element.parentNode !== this.element) this.element.append(view.element);
      const seen = JSON.stringify(part);
      if (view.seen !== seen) view.update(part);
      view.seen = seen;
    });
    this.element.classList.toggle('growing', message.state === 'queued' || message.state === 'running');
  }
}

/** What stands below an answer: how it ended, what happened on the way, what can be done with it. */
export function noteOf(message, { last, regenerate }) {
  const over = !['queued', 'running'].includes(message.state);
  const text = () =>
    message.parts
      .filter((part) => part.type === 'text')
      .map((part) => part.text)
      .join('');
  const chips = [];
  if (message.attempt > 1) chips.push(h('span.chip.over', {}, 'another worker took over'));
  if (message.state === 'aborted') chips.push(h('span.chip', {}, 'stopped'));
  if (message.finish_reason === 'length') chips.push(h('span.chip', {}, 'cut at the length limit'));
  if (message.state === 'failed') {
    const { code = 'unknown', message: says = '' } = message.error ?? {};
    chips.push(h('span.chip.bad', {}, `failed: ${code}`), h('span', {}, says));
  }
  const acts = h('span.acts', {});
  if (over && text()) acts.append(copyButton(text, 'Copy the answer'));
  if (over && last) acts.append(h('button.small', { type: 'button', onclick: regenerate }, 'Regenerate'));
  const { output_tokens: count, incomplete } = message.usage ?? {};
  const tokens = count && `${incomplete ? 'at least ' : ''}${count} tokens`;
  const facts = over && (last || text()) ? [message.model, tokens].filter(Boolean).join(' · ') : '';
  return [over && acts.childElementCount ? acts : null, ...chips, facts && h('span', {}, facts)].filter(Boolean);
}
