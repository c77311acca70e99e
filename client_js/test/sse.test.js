import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { eventStream, parser } from '../src/sse.js';

const { fetch } = globalThis;
afterEach(() => {
  globalThis.fetch = fetch;
});

/** Posts events with these ids over a stream, each answered by `answer`; the frames that come of so many `posts`. */
async function posted(ids, answer, sender = {}, posts = ids.length) {
  const frames = [];
  let left = posts;
  await new Promise((done) => {
    globalThis.fetch = async (url, { body } = {}) => {
      if (!String(url).includes('/v1/track')) return new Promise(() => {});
      if (--left === 0) setTimeout(done, 10);
      return answer(JSON.parse(body).messageId);
    };
    const asked = { user: () => 'ana', connection: () => 'c', epoch: () => 'e', ...sender };
    const ear = { frame: (frame) => frames.push(frame), alive() {}, closed() {} };
    const stream = eventStream(asked)('http://127.0.0.1/', { type: 'hello' }, ear);
    for (const id of ids) stream.send({ type: 'track', id, name: 'looked', properties: {} });
  });
  return frames;
}

test('a refusal that is cut off holds up none of the posts behind it', async () => {
  const cut = { status: 400, text: () => Promise.reject(new TypeError('cut off')) };
  const frames = await posted(['a', 'b'], (id) => (id === 'a' ? cut : new Response()));
  assert.deepEqual(frames.map((frame) => [frame.type, frame.id ?? frame.up_to]), [['error', 'a'], ['ack', 'b']]);
});

test('a post on which the server fails every time is given up, one on which it fails at first is not', async () => {
  let tries = 0;
  const failed = () => new Response('{"code": "fault"}', { status: 500, headers: { 'retry-after': '0' } });
  const frames = await posted(['a', 'b'], (id) => (id === 'a' || ++tries < 5 ? failed() : new Response()), {}, 10);
  assert.deepEqual(frames.map((frame) => [frame.type, frame.id ?? frame.up_to]), [['error', 'a'], ['ack', 'b']]);
});

test('an answer to a post that left in another epoch stands for nothing', async () => {
  let epoch = 'e1';
  const frames = await posted(['a', 'b'], () => ((epoch = 'e2'), new Response()), { epoch: () => epoch });
  assert.deepEqual(frames, [{ type: 'ack', up_to: 'b' }]);
});

/** Feeds text in pieces of every size; the events must not depend on where the network cut it. */
function parse(text) {
  const results = [];
  for (let size = 1; size <= text.length; size++) {
    const events = [];
    const feed = parser((data) => events.push(data));
    for (let at = 0; at < text.length; at += size) feed(text.slice(at, at + size));
    results.push(events);
  }
  for (const events of results) assert.deepEqual(events, results[0]);
  return results[0];
}

test('events are told apart by blank lines, whatever ends the lines', () => {
  assert.deepEqual(parse('event: pong\nid: e:1\ndata: {"a":1}\n\ndata: {"b":2}\n\n'), ['{"a":1}', '{"b":2}']);
  assert.deepEqual(parse('data: 1\r\n\r\ndata: 2\r\n\r\n'), ['1', '2']);
});

test('several data lines are one event, comments and unfinished events none', () => {
  assert.deepEqual(parse(': heartbeat\n\ndata: [1,\ndata:2]\n\nevent: x\n\ndata: cut off'), ['[1,\n2]']);
});
