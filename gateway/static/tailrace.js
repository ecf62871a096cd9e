// Tailrace for browsers and Node: follow an answer through cuts and fold it into a message. No dependencies.
//   follow(url, options)        async iterator of {id, event}: a message's entries, resumed by cursor until `end`
//   new Fold(message)           entries -> message; the server's own law (shared/fold.py) with the same test vectors
//   resumableFetch(options)     a fetch for the AI SDK's DefaultChatTransport that resumes in mid-stream
//   socketFetch(url, options)   a fetch for `follow` that takes any number of streams over one WebSocket
// None of them gives up while the server says that the message lives; an AbortSignal ends each.

/** The server said no and asking again will not help: an Error with `status` and the server's stable `code`. */
const refused = (status, code, text) => Object.assign(new Error(text || code), { name: 'Refused', status, code });

async function check(response) {
  const { ok, status, headers } = response;
  if (ok) return response;
  const waitMs = Math.min(headers.get('retry-after') * 1000 || 0, 60_000);
  if ([408, 425, 429].includes(status) || status >= 500) throw Object.assign(new Error(`status ${status}`), { waitMs });
  const { error } = await response.json().catch(() => ({}));
  throw refused(status, error?.code ?? `http_${status}`, error?.message);
}

// Calls `listener` when the network or the page comes back.
function onReturn(listener, signal) {
  globalThis.addEventListener?.('online', listener, { signal });
  globalThis.document?.addEventListener('visibilitychange', () => document.hidden || listener(), { signal });
}

/** The pause before the next try: exponential, jittered, behind `waitMs`; over when network or page come back. */
async function pause(baseMs, tries, outer, waitMs = 0) {
  const over = new AbortController();
  await new Promise((resolve) => {
    setTimeout(resolve, waitMs + Math.min(10_000, baseMs * 2 ** Math.min(tries, 6)) * (0.5 + Math.random() / 2));
    outer?.addEventListener('abort', resolve, { signal: over.signal });
    onReturn(resolve, over.signal);
  });
  over.abort();
}

/** One connection's life: every byte is a sign of it; silence beyond `stallMs` ends it (the server pings each 10 s). */
function begin(stallMs, outer) {
  const life = Object.assign(new AbortController(), { began: Date.now(), seen: Date.now() });
  const look = (limit) => Date.now() - life.seen > limit && life.abort(new DOMException('stalled', 'NetworkError'));
  const timer = setInterval(look, 1000, stallMs);
  life.signal.addEventListener('abort', () => clearInterval(timer));
  onReturn(() => look(stallMs / 2), life.signal); // back from sleep: no need to wait for the whole limit
  outer?.addEventListener('abort', () => life.abort(outer.reason), { signal: life.signal });
  return life;
}

/** Yield the events that `open(after, signal)` answers with, through any cuts, up to one that `decode` marks. */
async function* lasting(open, decode, { after, signal, onState = () => {}, stallMs = 25_000 }) {
  let [baseMs, tries] = [500, 0];
  onState('connecting');
  for (;;) {
    signal?.throwIfAborted();
    const life = begin(stallMs, signal);
    try {
      const response = await check(await open(after, life.signal));
      if (response.status === 204) return; // there is nothing more to deliver
      onState('open');
      for await (const event of sse(response.body, life)) {
        if (event.retry) baseMs = event.retry;
        if (event.data === undefined) continue;
        tries = 0;
        decode(event);
        after = event.voids ? undefined : (event.id ?? after);
        yield event;
        if (event.last) return;
      } // an end without the last event is a cut like any other
    } catch (error) {
      if (error.name === 'Refused' && !signal?.aborted) throw error;
      life.waitMs = error.waitMs;
    } finally {
      life.abort();
    }
    signal?.throwIfAborted();
    if (life.seen - life.began > 5000) tries = 0; // it stood: a rotation, however quiet the stream was
    onState('reconnecting');
    await pause(baseMs, tries++, signal, life.waitMs);
  }
}

/** Yield a body's whole SSE events; half an event at a cut is dropped. */
async function* sse(body, life) {
  const reader = body.getReader();
  life.signal.addEventListener('abort', () => reader.cancel().catch(() => {}));
  for (let [text, decoder] = ['', new TextDecoder()]; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    life.seen = Date.now();
    text += decoder.decode(value, { stream: true });
    const held = text.endsWith('\r') ? 1 : 0; // the other half of a CR LF may be on its way
    const blocks = text.slice(0, text.length - held).replace(/\r\n?/g, '\n').split('\n\n');
    text = blocks.pop() + (held ? '\r' : '');
    for (const block of blocks) yield parse(block);
  }
}

function parse(block) {
  const event = { raw: `${block}\n\n` };
  for (const line of block.split('\n')) {
    const [, field, value] = /^([^:]*)(?:: ?)?([^]*)$/.exec(line);
    if (field === 'data') event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    else if (field === 'id' && value) event.id = value;
    else if (field === 'retry' && /^\d+$/.test(value)) event.retry = Number(value);
  }
  return event;
}

async function get(fetch, url, { headers, credentials }, after, signal) {
  headers = new Headers(typeof headers === 'function' ? await headers() : headers);
  headers.delete('content-type');
  headers.set('accept', 'text/event-stream');
  if (after) headers.set('last-event-id', after);
  return fetch(url, { headers, credentials, cache: 'no-store', signal });
}

/**
 * Yield {id, event} for every entry of the message at `url` (".../stream"), once each and in order, then return.
 * `url` may be a function that is asked before each try. An event of type `reset` voids what came before it. Options:
 * after (the last id you have), headers (an object or an async function), credentials, signal, fetch, stallMs,
 * onState("connecting" | "open" | "reconnecting"). Throws what `refused` makes, or the signal's reason.
 */
export async function* follow(url, options = {}) {
  const { fetch = globalThis.fetch } = options;
  const open = (after, signal) => get(fetch, typeof url === 'function' ? url() : url, options, after, signal);
  const decode = (frame) => {
    frame.event = JSON.parse(frame.data);
    frame.last = frame.event.type === 'end';
    frame.voids = frame.event.type === 'reset' && !frame.id; // a replay from the start follows
  };
  for await (const { id, event } of lasting(open, decode, options)) yield { id, event };
}

/**
 * Return a fetch that mends event streams: after a cut it goes on with GET {api}/{chat id}/stream and Last-Event-ID (by
 * run id until an id has come), and passes on whole events only, once each. Options: fetch, streamUrl(url, init, run),
 * onState, stallMs, headers (an object or an async function) in place of the first request's, whose token may be over.
 */
export function resumableFetch({ fetch = globalThis.fetch, streamUrl = chatStream, headers, ...options } = {}) {
  return async (input, init = {}) => {
    const first = await fetch(input, init);
    const url = /event-stream/.test(first.headers.get('content-type')) && streamUrl(String(input), init);
    if (!url || !first.ok) return first;
    const run = streamUrl(String(input), init, first.headers.get('x-workflow-run-id')); // without what was sent
    let [last, answers, told] = [-1, [first], { ...init, ...(headers && { headers }) }];
    const over = new AbortController();
    init.signal?.addEventListener('abort', () => over.abort(init.signal.reason));
    const open = (after, signal) => answers.pop() ?? get(fetch, after ? url : run, told, after, signal);
    const decode = (event) => {
      const number = Number(event.id?.split(':')[1] ?? Infinity);
      if (number <= last) throw refused(200, 'began_anew', 'what was said is void: resume the chat');
      [last, event.last] = [number, event.data === '[DONE]'];
    };
    const events = lasting(open, decode, { ...options, signal: over.signal });
    const pass = (body, { done, value }) => (done ? body.close() : body.enqueue(new TextEncoder().encode(value.raw)));
    const pull = async (body) => pass(body, await events.next());
    return new Response(new ReadableStream({ pull, cancel: () => over.abort() }), first);
  };
}

function chatStream(url, { method = 'GET', body }, run) {
  if (method === 'GET') return url;
  const id = run || JSON.parse(body).id;
  const asked = (query) => (run ? `?startIndex=0${query.replace('?', '&')}` : query);
  return id && url.replace(/\/?(\?.*)?$/, (_, query = '') => `/${encodeURIComponent(id)}/stream${asked(query)}`);
}

/** A fetch for `follow`: all streams over one WebSocket. Options: protocols, ticket (async, asked before each one). */
export function socketFetch(url, { protocols, ticket } = {}) {
  const streams = new Map(); // what takes the frames of each subscription
  let [connection, count] = [null, 0];
  const connect = async (signal) => {
    const full = new URL(url, globalThis.location?.href.replace(/^http/, 'ws'));
    if (ticket) full.searchParams.set('ticket', await ticket());
    const ws = new WebSocket(full, protocols);
    return new Promise((resolve, reject) => {
      const drop = (error) => {
        connection = ws.onclose = null;
        ws.close();
        reject(error);
        for (const take of streams.values()) take({ type: 'closed', error });
      };
      ws.onopen = () => resolve({ ws, drop });
      const lives = ({ code, reason }) => !/^44/.test(code) || (ticket && reason === 'credential_expired');
      ws.onclose = (end) => drop(lives(end) ? new Error(`closed: ${end.code}`) : refused(end.code, end.reason));
      const hear = (said) => streams.forEach((take, sub) => (sub === said.sub || said.type === 'ping') && take(said));
      ws.onmessage = ({ data }) => hear(JSON.parse(data));
      signal.addEventListener('abort', () => ws.readyState === 0 && drop(signal.reason));
    });
  };
  return async (path, { headers, signal }) => {
    connection ??= connect(signal).catch((error) => ((connection = null), Promise.reject(error)));
    const { ws, drop } = await connection;
    signal.throwIfAborted();
    const sub = String(++count);
    const send = (frame) => ws.readyState === 1 && ws.send(JSON.stringify({ ...frame, sub }));
    const [, chat_id, message_id] = /chats\/([^/]+)\/messages\/([^/]+)/.exec(path)?.map(decodeURIComponent) ?? [];
    return new Promise((resolve, reject) => {
      const cancel = () => streams.delete(sub) && send({ type: 'unsubscribe' });
      signal.addEventListener('abort', () => {
        cancel();
        reject(signal.reason);
        if (signal.reason?.name === 'NetworkError') drop(signal.reason); // it went silent: nobody needs it any more
      });
      const take = (body, { type, entries, status, ...error }) => {
        const blocks = entries?.map(({ id, event }) => `id: ${id ?? ''}\ndata: ${JSON.stringify(event)}\n\n`);
        if (type === 'open') resolve(new Response(stream));
        else if (type === 'done') resolve(new Response(null, { status: 204 }));
        else if (type === 'error') resolve(Response.json({ error }, { status })), body.error(new Error(error.code));
        else if (type === 'closed') reject(error.error), body.error(error.error);
        else body.enqueue(new TextEncoder().encode(blocks?.join('') ?? ': ping\n'));
      };
      const stream = new ReadableStream({ start: (body) => streams.set(sub, (frame) => take(body, frame)), cancel });
      send({ type: message_id ? 'subscribe' : 'feed', chat_id, message_id, after: headers.get('last-event-id') });
    });
  };
}

/** Folds events into `message`, in order; a message that was folded on the server goes on here. */
export class Fold {
  constructor(message) {
    const empty = { chat_id: '', message_id: '', model: '', created_at: 0, state: 'queued', attempt: 0 };
    this.message = message ?? { ...empty, parts: [], metadata: {}, finish_reason: null, usage: null, error: null };
  }

  apply(event) {
    const [{ message }, kind] = [this, event.type];
    if (!fits(event)) return message;
    if (/^(text|reasoning)-(start|delta|end)$/.test(kind)) this.#text(event);
    else if (/^tool-(input-(start|delta|available|error)|output-(available|error))$/.test(kind)) this.#tool(event);
    else if (/^(source-url|source-document|file)$/.test(kind)) {
      const { sourceId: source_id, mediaType: media_type, url, title, filename } = event;
      message.parts.push(lean({ type: kind, source_id, url, media_type, title, filename }));
    } else if (kind === 'start-step') message.parts.push({ type: 'step-start' });
    else if (kind.startsWith('data-')) event.transient === true || this.#data(kind.slice(5), event);
    else if (kind === 'snapshot') this.message = event.message;
    else if (kind === 'attempt') Object.assign(message, { state: 'running', attempt: event.n });
    else if (kind === 'reset') Object.assign(message, { parts: [], metadata: {}, finish_reason: null });
    else if (kind === 'created')
      for (const key of ['chat_id', 'message_id', 'model', 'created_at']) message[key] = event[key];
    else if (/^(start|message-metadata|finish)$/.test(kind)) {
      if (kind === 'finish') message.finish_reason = event.finishReason ?? null;
      message.metadata = merged(message.metadata, event.messageMetadata ?? {});
    } else if (kind === 'end') {
      const { state, error = null, usage = null } = event;
      Object.assign(message, { state, error, usage: usage && { ...NO_USAGE, ...usage } });
      for (const part of message.parts) if ('text' in part) part.state = 'done';
    }
    return this.message;
  }

  #last = (type, key, id, name) =>
    this.message.parts.findLast((part) => part.type === type && part[key] === id && part.name === name);

  #text({ type: kind, id, delta, refusal }) {
    const [[type, step], mark] = [kind.split('-'), kind === 'text-start' && refusal === true && { refusal }];
    if (step === 'start') return this.message.parts.push({ type, id, text: '', state: 'streaming', ...mark });
    const old = this.#last(type, 'id', id);
    if (old?.state === 'streaming') Object.assign(old, step === 'end' ? { state: 'done' } : { text: old.text + delta });
  }

  #tool({ type, toolCallId, toolName, inputTextDelta, input, output, errorText, providerMetadata }) {
    const [{ parts }, [, side, step]] = [this.message, type.split('-')];
    const old = this.#last('tool', 'tool_call_id', toolCallId);
    if (!old && toolName === undefined) return;
    const made = side === 'input' ? { input, input_text: null } : { output };
    const part = old ?? { type: 'tool', tool_call_id: toolCallId, tool_name: toolName, state: 'input-streaming' };
    if (step === 'delta') part.input_text = (part.input_text ?? '') + inputTextDelta;
    else if (step !== 'start') Object.assign(part, { state: `${side}-${step}`, error_text: errorText, ...made });
    const mark = /^tool-input-[sa]/.test(type) && providerMetadata && { provider_metadata: providerMetadata };
    parts.splice(old ? parts.indexOf(old) : parts.length, 1, lean({ ...part, ...mark }));
  }

  #data(name, { id, data = null }) {
    const old = typeof id === 'string' && this.#last('data', 'id', id, name);
    if (old) old.data = data;
    else this.message.parts.push({ type: 'data', name, ...(typeof id === 'string' && { id }), data });
  }
}

const TEXTS = { // what events of these types must say; one that does not is ignored, like one of an unknown type
  id: /^(text|reasoning)-/, delta: /^(text|reasoning)-delta$/, toolCallId: /^tool-/, toolName: /^tool-input-[ase]/,
  inputTextDelta: /^tool-input-delta$/, errorText: /^tool-.*-error$/, sourceId: /^source-/, url: /^source-url|^file/,
  mediaType: /^source-document|^file/, title: /^source-document$/, chat_id: /^created$/, message_id: /^created$/,
}; // prettier-ignore
const fits = (event) =>
  Object.entries(TEXTS).every(([name, types]) => !types.test(event.type) || typeof event[name] === 'string') &&
  (!/^tool-input-[sa]/.test(event.type) || isObject(event.providerMetadata ?? {})) &&
  (event.type !== 'end' || ['done', 'failed', 'aborted'].includes(event.state));
const NO_USAGE = { input_tokens: 0, output_tokens: 0, total_tokens: 0, reasoning_tokens: 0, cached_tokens: 0 };
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const lean = (part) => Object.fromEntries(Object.entries(part).filter(([, value]) => value != null));

/** Deep merge. fromEntries defines own properties: a key `__proto__` in a model's output changes no prototype. */
function merged(old, fresh) {
  const both = (key) => Object.hasOwn(old, key) && isObject(old[key]) && isObject(fresh[key]);
  const mixed = Object.keys(fresh).map((key) => [key, both(key) ? merged(old[key], fresh[key]) : fresh[key]]);
  return Object.fromEntries([...Object.entries(old), ...mixed]);
}
