// A peer: a gateway as a careful Node programmer writes it. One subscription connection for all streams, the log read
// for what came before, doubles left out by id; chunks written to the socket directly where RAW is set.
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.PEERS}/package.json`);
const { Redis } = require("ioredis");
const options = { port: Number(process.env.REDIS_PORT), host: "127.0.0.1" };
const subscription = new Redis(options);
const commands = new Redis(options);
const raw = process.env.RAW === "1";
const streams = new Map();

const seqOf = (frame) => Number(frame.slice(4, frame.indexOf("-")));
const chunk = (text) => Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
const write = (viewer, text) => (raw ? viewer.answer.socket.write(chunk(text)) : viewer.answer.write(text));

subscription.on("message", (name, frame) => {
  const seq = seqOf(frame);
  const bytes = raw ? chunk(frame) : frame;
  for (const viewer of streams.get(name)?.viewers ?? []) {
    if (viewer.held) viewer.held.push(frame);
    else if (seq > viewer.last) {
      viewer.last = seq;
      if (raw) viewer.answer.socket.write(bytes);
      else viewer.answer.write(bytes);
    }
  }
});

async function catchUp(name, viewer) {
  for (let page; !page || page.length === 1000; ) {
    page = await commands.xrange(name, `(${viewer.last}-0`, "+", "COUNT", 1000);
    if (page.length) write(viewer, page.map(([id, [, data]]) => `id: ${id}\ndata: ${data}\n\n`).join(""));
    viewer.last = page.length ? parseInt(page.at(-1)[0], 10) : viewer.last;
  }
  for (const frame of viewer.held) {
    if (seqOf(frame) > viewer.last) {
      viewer.last = seqOf(frame);
      write(viewer, frame);
    }
  }
  viewer.held = null;
}

const server = http.createServer(async (request, answer) => {
  const name = `s:${request.url.split("/").at(-1)}`;
  answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  answer.flushHeaders();
  const viewer = { answer, last: parseInt(request.headers["last-event-id"] ?? "0", 10), held: [] };
  let stream = streams.get(name);
  if (!stream) streams.set(name, (stream = { viewers: new Set(), subscribed: subscription.subscribe(name) }));
  stream.viewers.add(viewer);
  request.on("close", () => {
    stream.viewers.delete(viewer);
    if (!stream.viewers.size && streams.delete(name)) subscription.unsubscribe(name);
  });
  await stream.subscribed;
  await catchUp(name, viewer);
});
server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
setInterval(() => {
  for (const { viewers } of streams.values()) for (const viewer of viewers) write(viewer, ": ping\n\n");
}, 15_000);
