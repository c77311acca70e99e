import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parser } from '../src/sse.js';

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
