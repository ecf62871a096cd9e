// A peer: Vercel's resumable-stream. `gateway` serves what `source S R SECONDS BACKFILL` writes; the library keeps a
// stream in the memory of the process that writes it, so the source must live while anybody reads. It is told to start
// writing by SIGUSR2, says `ready` before and `written` after its backfill.
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.PEERS}/package.json`);
process.env.REDIS_URL = `redis://127.0.0.1:${process.env.REDIS_PORT}`;
const { createResumableStreamContext } = require("resumable-stream");
const context = createResumableStreamContext({ waitUntil: () => {} });
const [role, ...numbers] = process.argv.slice(2);

async function serve() {
  const server = http.createServer(async (request, answer) => {
    const stream = await context.resumeExistingStream(`s:${request.url.split("/").at(-1)}`);
    if (!stream) return answer.writeHead(404).end();
    answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    answer.flushHeaders();
    const reader = stream.getReader();
    request.on("close", () => reader.cancel().catch(() => {}));
    for (let part = await reader.read(); !part.done; part = await reader.read()) answer.write(part.value);
    answer.end();
  });
  server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
}

async function write() {
  const [count, rate, seconds, backfill] = numbers.map(Number);
  const said = [" the", " answer", " to", " your", " question", " is", " being", " streamed,"];
  const controllers = [];
  const seqs = new Array(count).fill(0);
  const emit = (stream) => {
    const seq = ++seqs[stream];
    const ts = Math.round((performance.timeOrigin + performance.now()) * 1000);
    const data = `{"type":"text-delta","id":"t0","delta":"${said[seq & 7]}","seq":${seq},"ts":${ts}}`;
    controllers[stream].enqueue(`id: ${seq}-0\ndata: ${data}\n\n`);
  };
  for (let number = 0; number < count; number++) {
    const make = () => new ReadableStream({ start: (controller) => void (controllers[number] = controller) });
    const reader = (await context.createNewResumableStream(`s:${number}`, make)).getReader();
    (async () => {
      while (!(await reader.read()).done);
    })();
  }
  console.log("ready");
  for (let done = 0; done < backfill; done++) for (let number = 0; number < count; number++) emit(number);
  process.on("SIGUSR2", () => {
    const begun = performance.now();
    const total = count * rate * seconds;
    let done = 0;
    const tick = () => {
      const due = Math.min(total, ((performance.now() - begun) / 1000) * count * rate);
      for (; done < due; done++) emit(done % count);
      if (done < total) setTimeout(tick, 1);
    };
    tick();
  });
  console.log("written");
  setTimeout(() => process.exit(0), 180_000);
}

await (role === "gateway" ? serve() : write());
