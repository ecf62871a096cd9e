// How long `follow` waits before it comes back, and how soon it leaves; by a clock of our own.
import assert from 'node:assert/strict';
import { mock } from 'node:test';

import { follow, socketFetch } from '../../../gateway/static/tailrace.js';

mock.timers.enable({ apis: ['Date', 'setTimeout', 'setInterval'] });
const END = 'id: 1-1\ndata: {"type":"end","state":"done"}\n\n';
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/** Let time pass, in steps, until `promise` is settled. */
async function settled(promise, stepMs = 50) {
  let over = false;
  promise.then(() => (over = true), () => (over = true));
  for (let step = 0; !over && step < 1e5; step += 1) {
    await new Promise(setImmediate);
    mock.timers.tick(stepMs);
  }
  return promise;
}

/** Follow through `answers`, one a try; return the pauses before each but the first, and the states told. */
async function pauses(answers) {
  const [asked, left, states] = [[], [], []];
  const fetch = async () => {
    asked.push(Date.now());
    const response = answers.shift()(() => left.push(Date.now()));
    if (!response.ok) left.push(Date.now());
    return response;
  };
  const read = async () => {
    for await (const { event } of follow('http://test/stream', { fetch, onState: state => states.push(state) }))
      if (event.type === 'end') return;
  };
  await settled(read());
  return { pauses: asked.slice(1).map((at, n) => at - left[n]), states };
}

/** An answer that says `text` after each `everyMs`, so many times, and is cut. */
const says = (text, everyMs = 0, times = 1) => left =>
  new Response(
    new ReadableStream({
      async start(body) {
        for (let n = 0; n < times; n += 1) {
          await sleep(everyMs);
          body.enqueue(new TextEncoder().encode(text));
        }
        left();
        body.close();
      },
    }),
  );
const refuses = (status, headers) => () => new Response('{}', { status, headers });

// what stood for a while and is rotated is no trouble, however quiet it was: the next try is soon
const quiet = Array.from({ length: 9 }, () => says(': ping\n\n', 10_000, 3));
for (const ms of (await pauses([...quiet, says(END)])).pauses) assert.ok(ms <= 600, `${ms} ms after a quiet hour`);

// what is accepted and dropped at once is trouble: ever longer pauses
const dropped = Array.from({ length: 6 }, () => says('retry: 500\n\n'));
assert.ok((await pauses([...dropped, says(END)])).pauses.at(-1) > 4000);

// a server that says when to come back is heard; what is no number of seconds counts for nothing
for (const [said, least] of [['30', 30_000], ['3600', 60_000], ['0', 0], ['soon', 0]]) {
  const [first] = (await pauses([refuses(429, { 'retry-after': said }), says(END)])).pauses;
  assert.ok(first >= least + 250 && first <= least + 550, `${said}: ${first} ms`);
}

// a token that cannot be had now is asked for again; whoever gets none any more says so with the name of the error
const gives = [new Error('no network'), Object.assign(new Error('signed out'), { name: 'Refused' })];
const headers = async () => Promise.reject(gives.shift());
const unasked = () => assert.fail('nobody was to be asked');
await assert.rejects(settled(follow('http://test/stream', { fetch: unasked, headers }).next()), /signed out/);

// who leaves is gone at once, whatever carries the stream, and hears of no reconnect
const [over, states, began] = [new AbortController(), [], Date.now()];
const carried = async () => says(': ping\n\n', 10_000, 9)(() => {});
const left = (async () => {
  for await (const _ of follow('/s', { fetch: carried, signal: over.signal, onState: state => states.push(state) }));
})();
await new Promise(setImmediate);
over.abort(new Error('gone'));
await assert.rejects(settled(left), /gone/);
assert.ok(Date.now() - began <= 50, `${Date.now() - began} ms to leave`);
assert.deepEqual(states, ['connecting', 'open']);

// streams that share a socket leave it one by one, also one that leaves before the socket is open
const sockets = [];
globalThis.WebSocket = class {
  readyState = 0;
  said = [];
  constructor() {
    sockets.push(this);
  }
  send(text) {
    const { type, sub, message_id } = JSON.parse(text);
    this.said.push([type, message_id ?? sub]);
    if (type === 'subscribe') this.hear({ type: 'open', sub }, { type: 'entries', sub, entries: [{ id: '1-1', event: {} }] });
  }
  hear(...frames) {
    for (const frame of frames) queueMicrotask(() => this.onmessage({ data: JSON.stringify(frame) }));
  }
  close() {
    this.readyState = 3;
  }
};
const shared = socketFetch('ws://test/ws');
const reader = name => {
  const own = { leave: new AbortController(), states: [] };
  const options = { fetch: shared, signal: own.leave.signal, onState: state => own.states.push(state) };
  own.events = follow(`/chats/c/messages/${name}/stream`, options);
  own.first = own.events.next();
  own.first.catch(() => {});
  return own;
};
const [stays, early, late] = ['stays', 'early', 'late'].map(reader);
await new Promise(setImmediate);
early.leave.abort(new Error('too early'));
sockets[0].readyState = 1;
sockets[0].onopen();
await assert.rejects(settled(early.first), /too early/);
await settled(Promise.all([stays.first, late.first]));
late.leave.abort(new Error('enough'));
await assert.rejects(settled(late.events.next()), /enough/);
await new Promise(setImmediate);
assert.deepEqual(sockets[0].said, [['subscribe', 'stays'], ['subscribe', 'late'], ['unsubscribe', '2']]);
assert.deepEqual([sockets.length, stays.states, sockets[0].readyState], [1, ['connecting', 'open'], 1]);

console.log('ok');
process.exit(0);
