// Reads messages as a page would: over fetch, over a WebSocket, and with a plain EventSource. Commands on stdin, as JSON.
import { createInterface } from 'node:readline';
import { EventSource } from 'eventsource';
import { Fold, follow, socketFetch } from '../../../gateway/static/tailrace.js';

const sockets = new Map();

async function read(events) {
  const fold = new Fold();
  const ids = [];
  for await (const { id, event } of events) {
    if (id) ids.push(id);
    fold.apply(event);
  }
  return { ids, message: fold.message };
}

async function overFetch({ url, after, stallMs }) {
  const states = [];
  const onState = state => states.push(state);
  return { ...(await read(follow(url, { after, stallMs, onState }))), states };
}

function overSocket({ socket, url, after, stallMs }) {
  if (!sockets.has(socket)) sockets.set(socket, socketFetch(socket));
  return read(follow(url, { after, stallMs, fetch: sockets.get(socket) }));
}

// As a page whose keys are short-lived: a new ticket, for the next of `keys`, before each connection.
async function withTickets({ origin, url, keys }) {
  const states = [];
  const ticket = async () => {
    const headers = { authorization: `Bearer ${keys.length > 1 ? keys.shift() : keys[0]}` };
    const answer = await fetch(`${origin}/tickets`, { method: 'POST', headers, body: '{"use":"socket"}' });
    return (await answer.json()).ticket;
  };
  const overSocket = socketFetch(`${origin.replace('http', 'ws')}/ws`, { ticket });
  return { ...(await read(follow(url, { fetch: overSocket, onState: state => states.push(state) }))), states };
}

// What any page does without our module: reconnects are the browser's, with its own Last-Event-ID.
function overEventSource({ url }) {
  return new Promise((resolve, reject) => {
    const fold = new Fold();
    const ids = [];
    let cuts = 0;
    const source = new EventSource(url);
    source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      ids.push(lastEventId);
      fold.apply(event);
      if (event.type !== 'end') return;
      source.close();
      resolve({ ids, message: fold.message, cuts });
    };
    source.onerror = error => {
      cuts += 1;
      if (source.readyState === EventSource.CLOSED) reject(new Error(`closed with ${error.code}`));
    };
  });
}

const DO = { overFetch, overSocket, withTickets, overEventSource };

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  Promise.resolve()
    .then(() => DO[command.do](command))
    .then(value => ({ value }), error => ({ failed: `${error.name} ${error.code ?? ''} ${error.message}` }))
    .then(answer => process.stdout.write(`${JSON.stringify({ n: command.n, ...answer })}\n`));
}
process.exit(0);
