// How the page talks to gateways: its own first, another one of this machine while that is away; and as whom.

import { follow, socketFetch } from './tailrace.js';

/** {open: nobody is asked who they are, local: a run on one machine, peers: origins of its gateways}. */
export const config = await fetch('/static/config.json').then((response) => response.json());

/** The other gateways, which are told apart by their ports: this page may have been opened as localhost. */
export const peers = config.peers.filter((peer) => new URL(peer).port !== location.port);
const origins = [location.origin, ...peers];

/** By origin. The feed goes over a WebSocket, and what has no HTTP connection of its own: see `ownConnection`. */
const sockets = new Map();
const OWN = 2;
const KEY = 'tailrace.credential';
let asking = null;

const credentialNow = () => sessionStorage.getItem(KEY);

function headers(more = {}) {
  const credential = credentialNow();
  return credential ? { ...more, authorization: `Bearer ${credential}` } : more;
}

/** Ask for another key than `used`, which was refused; once, whoever needs it. */
function signIn(used) {
  if (!asking && used !== credentialNow()) return null; // somebody was asked meanwhile
  asking ??= new Promise((resolve) => {
    const dialog = document.querySelector('#sign-in');
    const input = dialog.querySelector('input');
    const done = () => {
      asking = null;
      sessionStorage.setItem(KEY, input.value.trim());
      sockets.clear(); // those were opened as somebody else
      resolve();
    };
    dialog.querySelector('.bad').hidden = !used;
    dialog.addEventListener('close', done, { once: true });
    dialog.showModal();
    input.select();
  });
  return asking;
}

/** Call one operation; throws an Error with the server's `code` and `status`, or code "offline". */
export async function call(method, path, body) {
  const init = { method, cache: 'no-store', body: body && JSON.stringify(body) };
  for (const origin of origins) {
    const used = credentialNow();
    const given = headers({ ...(body && { 'content-type': 'application/json' }) });
    let response;
    try {
      response = await fetch(origin + path, { ...init, headers: given });
    } catch {
      continue; // every call of this page may be repeated, so the next gateway may have it
    }
    if (response.status === 401) {
      await signIn(used);
      return call(method, path, body);
    }
    const answer = await response.json().catch(() => null);
    if (response.ok) return answer;
    const { code = `http_${response.status}`, message = response.statusText } = answer?.error ?? {};
    throw Object.assign(new Error(message), { code, status: response.status });
  }
  throw Object.assign(new Error('No gateway can be reached.'), { code: 'offline', status: 0 });
}

const base64url = (text) =>
  btoa(String.fromCharCode(...new TextEncoder().encode(text)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');

function overSocket(url, init) {
  const { origin } = new URL(url);
  if (!sockets.has(origin)) {
    const credential = credentialNow();
    const protocols = ['tailrace.v1', ...(credential ? [`bearer.${base64url(credential)}`] : [])];
    sockets.set(origin, socketFetch(`${origin.replace(/^http/, 'ws')}/ws`, { protocols }));
  }
  return sockets.get(origin)(url, init);
}

export const feed = (options) => reading('/feed', options, () => overSocket);

/**
 * Take one of the few HTTP connections that streams may have; return what gives it back, null if there is none left.
 * Browsers allow six to an origin, over all tabs, and calls and files need some: others share the tab's WebSocket.
 */
async function ownConnection() {
  for (let n = 0; n < OWN && navigator.locks; n += 1) {
    const leave = await new Promise((resolve) => {
      const hold = (lock) => (lock ? new Promise(resolve) : resolve(null)); // resolved with what lets the lock go
      navigator.locks.request(`tailrace.stream.${n}`, { ifAvailable: true }, hold);
    });
    if (leave) return leave;
  }
  return null;
}

/**
 * Follow a stream through whichever gateway answers; `onState(state, origin)`. Where the key is refused, also in the
 * middle, another one is asked for, and the stream goes on.
 */
export async function* stream(path, options) {
  const leave = await ownConnection();
  try {
    yield* reading(path, options, (tries) => (leave || tries > 2 * origins.length ? fetch : overSocket));
  } finally {
    leave?.();
  }
}

/** As `stream`; `carrier(tries)` returns what fetches, after so many tries since it was last open. */
async function* reading(path, { onState = () => {}, ...options }, carrier) {
  let tries = 0;
  let origin = location.origin;
  let used = null;
  const url = () => {
    origin = origins[tries++ % origins.length];
    used = credentialNow();
    return origin + path;
  };
  const note = (state) => {
    if (state === 'open') tries = 0; // after the next cut, our own gateway is asked first again
    onState(state, origin);
  };
  const carry = (...asked) => carrier(tries)(...asked);
  const given = { ...options, headers: async () => headers(), fetch: carry, onState: note };
  for (let { after } = options; ; await signIn(used)) {
    try {
      for await (const entry of follow(url, { ...given, after })) {
        after = entry.event.type === 'reset' ? entry.id : (entry.id ?? after);
        yield entry;
      }
      return;
    } catch (error) {
      if (![401, 4401].includes(error.status)) throw error;
    }
  }
}

export const chatPath = (chat) => `/chats/${encodeURIComponent(chat)}`;
export const messagePath = (chat, message) => `${chatPath(chat)}/messages/${encodeURIComponent(message)}`;

/** Local runs only: break something on purpose. Returns whether it was there; a killed gateway cannot say so. */
export async function breakIt(what) {
  const init = { method: 'POST', headers: { 'x-tailrace-local': '1' } };
  try {
    const response = await fetch(`/__local/${what}`, init);
    await response.text(); // unread, it would never be over
    return response.ok;
  } catch {
    return what === 'kill-gateway';
  }
}
