// The page: a chat in the middle, all chats at the side. What it knows it can forget at any time: everything is read
// back from the server, from any gateway, and an answer that is being written goes on where it was.

import { breakIt, call, chatPath, config, messagePath, peers, stream } from './api.js';
import { Chats } from './chats.js';
import { closeSide, sideIsOpen, wireShell } from './shell.js';
import { Speaker } from './speaker.js';
import { StatusLine } from './status.js';
import { isOver, newId, openCalls, readChat, runTool, start, stop } from './talk.js';
import { Fold } from './tailrace.js';
import { Answer, h, noteOf } from './view.js';

const $ = (id) => document.getElementById(id);
const speaker = new Speaker($('spoken'));

/** The open chat. `run` is replaced whenever another one is opened; whatever belongs to an old one then goes quiet. */
let talk = { id: null, turns: [], run: new AbortController() };
const status = new StatusLine($('state'), $('trace'));

// -- turns on the page

function draw() {
  const items = talk.turns.map((turn) => (turn.item ??= makeItem(turn)));
  $('turns').replaceChildren(...items);
  talk.turns.forEach((turn, at) => turn.role === 'assistant' && renderTurn(turn, at === talk.turns.length - 1));
  $('welcome').hidden = talk.turns.length > 0;
  drawTitle();
}

function drawTitle() {
  const title = chats.get(talk.id)?.title;
  $('title').textContent = title || (talk.turns.length ? 'Chat' : 'New chat');
  document.title = title ? `${title} · Tailrace` : 'Tailrace';
}

function makeItem(turn) {
  if (turn.role === 'user') {
    return h('li.turn.user', {}, h('span.hidden', {}, 'You: '), h('div.said', { dir: 'auto' }, turn.text));
  }
  turn.answer = new Answer();
  turn.note = h('div.note');
  return h(
    'li.turn.assistant',
    { 'data-id': turn.id },
    h('span.hidden', {}, 'Answer: '),
    turn.answer.element,
    turn.note,
  );
}

function renderTurn(turn, last) {
  turn.answer.update(turn.message);
  turn.note.replaceChildren(...noteOf(turn.message, { last, regenerate }));
}

let frame = 0;
function renderSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const turn = talk.turns.at(-1);
    if (turn?.role !== 'assistant') return;
    const stuck = atBottom();
    turn.answer.update(turn.message);
    speaker.hear(turn.message);
    status.trace();
    if (stuck) toBottom();
  });
}

const atBottom = () => $('scroll').scrollHeight - $('scroll').scrollTop - $('scroll').clientHeight < 60;
function toBottom() {
  $('scroll').scrollTop = $('scroll').scrollHeight;
}

function showSending() {
  const running = status.followed !== null;
  $('stop').hidden = !running;
  $('send').hidden = running;
  $('send').disabled = !$('prompt').value.trim();
}

// -- following an answer

async function followTurn(turn, cursor) {
  const { run } = talk;
  const { signal } = run;
  status.followed = {
    turn,
    entries: cursor ? Number(cursor.split('-')[1]) : 0,
    resumed: 0,
    origin: location.origin,
    state: '',
    heard: Date.now(),
  };
  const mine = status.followed;
  const late = setTimeout(() => status.settle(), 400);
  const waiting = setInterval(() => lookLate(mine), 1000);
  showSending();
  let fold = new Fold(turn.message);
  const onState = (state, origin) => {
    if (state === 'open' && mine.state === 'reconnecting') mine.resumed += 1;
    Object.assign(mine, { state, origin });
    if (state !== 'connecting') status.settle();
    status.trace();
  };
  try {
    for await (const { id, event } of stream(`${messagePath(talk.id, turn.id)}/stream`, {
      after: cursor,
      signal,
      onState,
    })) {
      clearTimeout(late);
      if (event.type === 'reset' && !id) fold = new Fold();
      turn.message = fold.apply(event);
      if (id) mine.entries = Number(id.split('-')[1]);
      mine.heard = Date.now();
      mine.waiting = event.type === 'created' ? 'Waiting for a worker…' : undefined;
      if (event.type === 'attempt' && event.n > 1) {
        status.say('trouble', 'Another worker took over', 3500);
        renderTurn(turn, true);
      } else if (mine.state === 'open') status.settle();
      renderSoon();
    }
    if (!isOver(turn.message)) turn.message = (await call('GET', messagePath(talk.id, turn.id))).message;
  } catch (error) {
    if (signal.aborted) return;
    turn.message = await lastWord(turn, error);
  } finally {
    clearTimeout(late);
    clearInterval(waiting);
    if (status.followed === mine) {
      status.trace();
      status.followed = null;
    }
  }
  if (!signal.aborted) await finished(turn);
}

/** The stream is refused: what the server still has of the message, or the refusal itself. */
async function lastWord(turn, error) {
  const view = await call('GET', messagePath(talk.id, turn.id)).catch(() => null);
  if (view && isOver(view.message)) return view.message;
  return { ...turn.message, state: 'failed', error: { code: error.code ?? 'unknown', message: error.message } };
}

const PHASES = { waiting: 'Waiting for a worker…', recovering: 'Waiting for another worker…', stopping: 'Stopping…' };

const QUIET_MS = 1500;

/** Nothing has come for a while: ask what is going on. */
async function lookLate(mine) {
  if (mine.state !== 'open' || Date.now() - mine.heard < QUIET_MS) return;
  const { messages } = await call('GET', chatPath(talk.id)).catch(() => ({ messages: [] }));
  const now = messages.find(({ message_id: id }) => id === mine.turn.id);
  if (!now || status.followed !== mine || Date.now() - mine.heard < QUIET_MS) return;
  mine.waiting = PHASES[now.phase] ?? 'Waiting for the model…';
  status.settle();
}

async function finished(turn) {
  chats.ended(talk.id, turn.id);
  const { message } = turn;
  const stuck = atBottom();
  renderTurn(turn, true);
  if (stuck) toBottom();
  speaker.finish(message);
  if (message.state === 'failed') status.say('bad', 'Failed');
  else if (message.state === 'aborted') status.say('', 'Stopped');
  else status.settle();
  showSending();
  const calls = openCalls(message).filter((part) => part.tool_name === 'local_time');
  if (calls.length === 0 || !turn.mine) return;
  for (const part of calls) Object.assign(part, { output: runTool(), state: 'output-available' });
  renderTurn(turn, false);
  await ask({ tool: true });
}

// -- asking, stopping, asking again

async function ask({ tool = $('tool').checked, replace = false } = {}) {
  const id = newId('msg');
  const turn = { role: 'assistant', id, message: new Fold().message, mine: true };
  const before = [...talk.turns];
  talk.turns.push(turn);
  const { signal } = talk.run;
  draw();
  toBottom();
  status.followed = { turn };
  showSending();
  status.say('busy', 'Sending…');
  const title = chats.get(talk.id)?.title || titleOf(before[0]);
  try {
    const request = start(talk.id, id, before, { title, tool, replace });
    chats.started(talk.id, id, title);
    await request;
  } catch (error) {
    status.followed = null;
    if (signal.aborted) return;
    if (error.code === 'chat_busy') {
      $('prompt').value ||= before.at(-1)?.text ?? ''; // another tab was faster: show its answer, keep what was typed
      return open(talk.id);
    }
    turn.message = { ...turn.message, state: 'failed', error: { code: error.code, message: error.message } };
    await finished(turn);
    return;
  }
  if (signal.aborted) return;
  await followTurn(turn);
}

/** The beginning of the first question, without what only the scripted model reads. */
const titleOf = (turn) => turn?.text.replace(/\[\[.*?\]\]/g, '').trim().slice(0, 60); // prettier-ignore

async function submit() {
  const text = $('prompt').value.trim();
  if (!text || status.followed) return;
  $('prompt').value = '';
  fit();
  if (!talk.id) {
    talk.id = newId('chat');
    history.pushState(null, '', hashOf(talk.id));
  }
  talk.turns.push({ role: 'user', text });
  speaker.say('Sent.');
  await ask();
}

async function regenerate() {
  if (status.followed) return;
  while (talk.turns.at(-1)?.role === 'assistant') talk.turns.pop();
  $('prompt').focus();
  await ask({ replace: true });
}

async function halt() {
  const turn = status.followed?.turn;
  if (!turn) return;
  status.say('busy', 'Stopping…', 1500);
  $('prompt').focus();
  await stop(talk.id, turn.id).catch((error) => status.say('bad', error.message, 3000));
}

// -- chats

const hashOf = (id) => `#c=${encodeURIComponent(id)}`;

function idInHash() {
  try {
    return location.hash.startsWith('#c=') ? decodeURIComponent(location.hash.slice(3)) || null : null;
  } catch {
    return null; // somebody typed it
  }
}

async function open(id) {
  talk.run.abort();
  talk = { id, turns: [], run: new AbortController() };
  status.forget();
  drawChats();
  showSending();
  closeSide();
  if (!id) {
    draw();
    status.say('', 'Ready');
    return;
  }
  const { signal } = talk.run;
  status.say('busy', 'Reading the chat…');
  $('welcome').hidden = true;
  let found = null;
  let problem = 'This chat is no longer kept.';
  try {
    found = await readChat(id, chats.get(id)?.last);
  } catch (error) {
    if (!['gone', 'not_found'].includes(error.code)) problem = error.message;
    else if (!signal.aborted) chats.forget(id);
  }
  if (signal.aborted) return;
  talk.turns = found?.turns ?? [];
  chats.name(id, found?.title || titleOf(talk.turns.find(({ role }) => role === 'user')));
  draw();
  toBottom();
  const turn = talk.turns.at(-1);
  if (!found) status.say('bad', problem);
  else if (turn && !isOver(turn.message)) await followTurn(turn, found.cursor);
  else status.settle();
}

function chatItem({ id, title, running }) {
  const spin = [h('span.spin', { 'aria-hidden': 'true' }), h('span.hidden', {}, ', being answered')];
  const current = id === talk.id && 'page';
  const name = h('span', {}, title || 'Chat');
  return h('li', {}, h('a', { href: hashOf(id), 'aria-current': current }, name, ...(running.size ? spin : [])));
}

function drawChats(event) {
  const focused = $('chats').contains(document.activeElement) && document.activeElement.getAttribute('href');
  $('chats').replaceChildren(...chats.list().map(chatItem));
  if (focused) document.querySelector(`#chats [href="${CSS.escape(focused)}"]`)?.focus();
  drawTitle();
  drawOther();
  const here = event?.type === 'started' && event.chat_id === talk.id;
  const known = talk.turns.some((turn) => turn.id === event?.message_id);
  if (here && !known && !status.followed?.turn.mine) open(talk.id); // somebody asks in another tab: show it here too
}

function drawOther() {
  const [peer] = peers;
  const link = $('other');
  link.hidden = !peer;
  if (!peer) return;
  link.href = `${peer}/${talk.id ? hashOf(talk.id) : ''}`;
  link.textContent = `Open on :${new URL(peer).port} ↗`;
  link.setAttribute('aria-label', `Open this chat on the other gateway, ${new URL(peer).host}, in a new tab`);
}

const chats = new Chats(drawChats);

// -- the page's own controls

const BROKEN = {
  cut: 'Connections cut',
  'kill-gateway': 'Gateway killed; it starts again',
  'kill-worker': 'Worker killed; it starts again',
};

function fit() {
  const prompt = $('prompt');
  prompt.style.height = 'auto';
  prompt.style.height = `${prompt.scrollHeight}px`;
  showSending();
}

function fresh() {
  history.pushState(null, '', location.pathname);
  open(null);
  $('prompt').focus();
}

function wire() {
  $('composer').addEventListener('submit', (event) => (event.preventDefault(), submit()));
  $('prompt').addEventListener('input', fit);
  $('prompt').addEventListener('keydown', (event) => {
    const composing = event.isComposing || event.keyCode === 229; // the latter in Safari
    if (event.key === 'Enter' && !event.shiftKey && !composing) (event.preventDefault(), submit());
  });
  $('stop').addEventListener('click', halt);
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || document.querySelector('dialog[open]')) return;
    if (sideIsOpen()) closeSide();
    else halt();
  });
  $('new-chat').addEventListener('click', fresh);
  document.querySelector('.brand').addEventListener('click', (event) => (event.preventDefault(), fresh()));
  $('latest').addEventListener('click', toBottom);
  $('scroll').addEventListener('scroll', () => ($('latest').hidden = atBottom()), { passive: true });
  $('ideas').addEventListener('click', ({ target }) => {
    if (target.tagName !== 'BUTTON') return;
    $('prompt').value = target.textContent;
    submit();
    $('prompt').focus();
  });
  $('break').hidden = !config.local;
  $('break').addEventListener('click', async ({ target }) => {
    const what = target.closest('[data-break]')?.dataset.break;
    if (!what) return;
    const says = (await breakIt(what)) ? BROKEN[what] : 'It is away just now.';
    status.say('trouble', says, 2500);
    speaker.say(says);
  });
  $('where').textContent = location.host;
  for (const name of ['online', 'offline']) window.addEventListener(name, () => status.settle());
  window.addEventListener('hashchange', () => idInHash() !== talk.id && open(idInHash()));
  window.addEventListener('popstate', () => idInHash() !== talk.id && open(idInHash()));
}

dispatchEvent(new Event('started')); // every file is here
wireShell();
wire();
chats.watch();
await open(idInHash());
if (matchMedia('(hover: hover)').matches) $('prompt').focus();
