import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Queue, pack } from '../src/queue.js';

const event = (id) => ({ type: 'track', id, name: 'feature_used', properties: {} });

test('an ack settles the event it names and all before it', async () => {
  const queue = new Queue();
  const kept = ['a', 'b', 'c'].map((id) => queue.add(event(id), 0));
  queue.acknowledge('b', 0);
  await Promise.all(kept.slice(0, 2));
  assert.deepEqual(queue.unacknowledged(0).map((message) => message.id), ['c']);
});

test('an ack that stands alone settles nothing before it', async () => {
  const queue = new Queue();
  const kept = ['a', 'b', 'c'].map((id) => queue.add(event(id), 0));
  queue.acknowledge('b', 0, true);
  await kept[1];
  assert.deepEqual(queue.unacknowledged(0).map((message) => message.id), ['a', 'c']);
});

test('an ack of something unknown settles nothing', () => {
  const queue = new Queue();
  queue.add(event('a'), 0);
  queue.acknowledge('z', 0);
  assert.equal(queue.size, 1);
});

test('a refusal concerns one event and says why', async () => {
  const queue = new Queue();
  const refused = queue.add(event('a'), 0);
  queue.add(event('b'), 0);
  queue.refuse('a', 'too large');
  await assert.rejects(refused, /too large/);
  assert.equal(queue.size, 1);
});

test('beyond the bound the oldest gives way', async () => {
  const queue = new Queue(2);
  const [oldest] = ['a', 'b', 'c'].map((id) => queue.add(event(id), 0));
  await assert.rejects(oldest, /More than 2 events/);
  assert.deepEqual(queue.unacknowledged(0).map((message) => message.id), ['b', 'c']);
});

test('an event keeps its id when sent again, and says when it was made if it has waited', () => {
  const queue = new Queue();
  queue.add(event('a'), 1_000_000);
  assert.deepEqual(queue.unacknowledged(1_000_500), [event('a')]);
  assert.deepEqual(queue.unacknowledged(1_060_000), [{ ...event('a'), at: new Date(1_000_000).toISOString() }]);
});

test('an identify that has waited carries no time', () => {
  const queue = new Queue();
  const message = { type: 'identify', id: 'a', traits: { plan: 'trial' } };
  queue.add(message, 0);
  assert.deepEqual(queue.unacknowledged(60_000), [message]);
});

test('what is abandoned is rejected', async () => {
  const queue = new Queue();
  const kept = queue.add(event('a'), 0);
  queue.abandon('closed');
  await assert.rejects(kept, /closed/);
  await assert.rejects(queue.add(event('b'), 0), /closed/);
  assert.equal(queue.size, 0);
});

test('what is sent again is not settled by an ack of what was sent after it', () => {
  const queue = new Queue();
  for (const id of ['a', 'b']) queue.add(event(id), 0);
  assert.deepEqual(queue.again('a'), event('a'));
  assert.equal(queue.again('z'), undefined);
  queue.acknowledge('b', 0);
  assert.deepEqual(queue.unacknowledged(0).map((message) => message.id), ['a']);
});

const ids = (queue, now) => queue.unacknowledged(now).map((message) => message.id);

test('what was acknowledged within the last minute can be called back, in its order, before what waits', () => {
  const queue = new Queue();
  for (const id of ['a', 'b', 'c', 'd']) queue.add(event(id), 0);
  queue.acknowledge('a', 1_000);
  queue.acknowledge('c', 50_000);
  assert.deepEqual(ids(queue, 61_000), ['d']);
  queue.recall(61_000, false);
  assert.deepEqual(ids(queue, 61_000), ['b', 'c', 'd']);
  assert.equal(queue.unacknowledged(61_000)[0].at, new Date(0).toISOString());
});

test('what is called back stays until it is acknowledged again, and may be called back once more', () => {
  const queue = new Queue();
  queue.add(event('a'), 0);
  queue.acknowledge('a', 0);
  queue.recall(1_000, false);
  queue.recall(2_000, false);
  assert.deepEqual(ids(queue, 2_000), ['a']);
  queue.acknowledge('a', 3_000);
  assert.equal(queue.size, 0);
  queue.recall(4_000, false);
  assert.deepEqual(ids(queue, 4_000), ['a']);
});

test('on a connection in use it goes behind what has left, whose acks are none of it', () => {
  const queue = new Queue();
  for (const id of ['a', 'b']) queue.add(event(id), 0);
  queue.acknowledge('a', 0);
  queue.recall(1_000, true);
  queue.acknowledge('b', 1_000);
  assert.deepEqual(ids(queue, 1_000), ['a']);
});

test('where something left twice over a connection, what it lost goes over another one', () => {
  const queue = new Queue();
  for (const id of ['a', 'b', 'c']) queue.add(event(id), 0);
  queue.acknowledge('b', 0);
  assert.equal(queue.recall(1_000, true), true);
  assert.deepEqual(queue.unacknowledged(1_000, true).map(({ id }) => id), ['c', 'a', 'b']);
  queue.acknowledge('b', 1_500);
  assert.equal(queue.recall(2_000, true), false, 'an ack of c, a or b may mean what left first');
  assert.deepEqual(queue.unacknowledged(3_000).map(({ id }) => id), ['c', 'a', 'b']);
  queue.acknowledge('b', 3_000);
  assert.equal(queue.recall(3_500, true), true, 'over the other one each has left once');
  queue.unacknowledged(3_500, true);
  assert.equal(queue.recall(63_500, true), true, 'by then every ack has come');
});

test('of what was acknowledged so many are kept as may wait', () => {
  const queue = new Queue(2);
  for (const id of ['a', 'b', 'c']) {
    queue.add(event(id), 0);
    queue.acknowledge(id, 0);
  }
  queue.recall(0, false);
  assert.deepEqual(ids(queue, 0), ['b', 'c']);
});

test('what was refused or given up is not called back', async () => {
  const queue = new Queue();
  await assert.rejects(Promise.all([queue.add(event('a'), 0), queue.refuse('a', 'too large')]));
  queue.add(event('b'), 0);
  queue.acknowledge('b', 0);
  queue.abandon('closed');
  queue.recall(0, false);
  assert.equal(queue.size, 0);
});

test('an event is sent as it was when it was made', () => {
  const properties = { step: 'one' };
  const packed = pack({ ...event('a'), properties });
  properties.step = 'two';
  assert.deepEqual(packed.properties, { step: 'one' });
});

test('what cannot be sent is refused before it is queued', () => {
  const circle = {};
  circle.round = circle;
  for (const properties of [circle, { big: 1n }]) assert.throws(() => pack({ ...event('a'), properties }), TypeError);
  assert.throws(() => pack({ ...event('a'), properties: { text: 'x'.repeat(20_000) } }), /16000 characters/);
});

test('what was refused for now is no part of an ack, and goes out again behind the others', async () => {
  const queue = new Queue();
  const [held, taken] = ['a', 'b', 'c'].map((id) => queue.add(event(id), 0));
  queue.hold('a');
  queue.acknowledge('b');
  await taken;
  assert.equal(queue.size, 2);
  assert.deepEqual(queue.release(10, 0), [event('a')]);
  assert.deepEqual(queue.release(10, 0), []);
  queue.acknowledge('c');
  assert.equal(queue.size, 1);
  queue.acknowledge('a');
  await held;
});

test('what was refused for now goes out some at a time, with the time it was made', () => {
  const queue = new Queue();
  for (const id of ['a', 'b', 'c']) queue.add(event(id), 1_000_000);
  for (const id of ['a', 'b', 'c']) queue.hold(id);
  assert.deepEqual(queue.release(2, 1_003_000).map(({ id, at }) => [id, at]), [
    ['a', '1970-01-01T00:16:40.000Z'],
    ['b', '1970-01-01T00:16:40.000Z'],
  ]);
  assert.deepEqual(queue.release(2, 1_003_000).map(({ id }) => id), ['c']);
});

test('a new connection gets what was refused for now with the rest', () => {
  const queue = new Queue();
  for (const id of ['a', 'b']) queue.add(event(id), 0);
  queue.hold('a');
  assert.deepEqual(queue.unacknowledged(0).map(({ id }) => id), ['a', 'b']);
  assert.deepEqual(queue.release(10, 0), []);
});
