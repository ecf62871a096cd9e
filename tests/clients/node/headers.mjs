// `resumableFetch` asks for headers before each resume: the token of the first request may be over by then.
import assert from 'node:assert/strict';

import { resumableFetch } from '../../../gateway/static/tailrace.js';

const chunk = (number, data) => `id: m:${number}:1\ndata: ${data}\n\n`;
const seen = [];
const answers = [
  () => new Response(chunk(0, '"a"'), { headers: { 'content-type': 'text/event-stream' } }), // and a cut
  () => new Response(null, { status: 503 }),
  () => new Response(`${chunk(1, '"b"')}data: [DONE]\n\n`, { headers: { 'content-type': 'text/event-stream' } }),
];
const fetch = async (url, { method = 'GET', headers }) => {
  const given = new Headers(headers);
  seen.push([method, given.get('authorization'), given.get('last-event-id')]);
  return answers.shift()();
};
let tokens = 0;
const mended = resumableFetch({ fetch, headers: async () => ({ authorization: `Bearer ${++tokens}` }) });
const init = { method: 'POST', headers: { authorization: 'Bearer 0' }, body: '{"id":"c"}' };
const text = await (await mended('/api/chat', init)).text();
assert.equal(text, `${chunk(0, '"a"')}${chunk(1, '"b"')}data: [DONE]\n\n`);
assert.deepEqual(seen, [
  ['POST', 'Bearer 0', null],
  ['GET', 'Bearer 1', 'm:0:1'],
  ['GET', 'Bearer 2', 'm:0:1'],
]);
process.exit(0); // the client's timers would keep it
