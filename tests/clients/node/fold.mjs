// Runs the reducer over the vectors that shared/fold.py keeps to, cut at every event and gone on with from a snapshot.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Fold } from '../../../gateway/static/tailrace.js';

const json = value => JSON.parse(JSON.stringify(value));
const vectors = JSON.parse(readFileSync(new URL('../../vectors/fold.json', import.meta.url)));
for (const { name, events, message } of vectors) {
  for (let cut = 0; cut <= events.length; cut += 1) {
    const before = new Fold();
    for (const event of json(events.slice(0, cut))) before.apply(event);
    const after = new Fold(json(before.message));
    for (const event of json(events.slice(cut))) after.apply(event);
    assert.deepEqual(json(after.message), message, `${name}, cut after ${cut}`);
  }
}

const fold = new Fold();
fold.apply(JSON.parse('{"type":"message-metadata","messageMetadata":{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}}'));
fold.apply(JSON.parse('{"type":"message-metadata","messageMetadata":{"__proto__":{"polluted":2}}}'));
assert.equal({}.polluted, undefined);
assert.equal(fold.message.metadata.polluted, undefined);
assert.equal(Object.getPrototypeOf(fold.message.metadata), Object.prototype);
console.log(`${vectors.length} vectors`);
