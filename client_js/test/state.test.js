import assert from 'node:assert/strict';
import { test } from 'node:test';

import { nothing, reduce } from '../src/state.js';
import { golden } from './wire.js';

/** Reduces frames one after the other and collects the events. */
function run(frames, start = nothing) {
  let state = start;
  const events = [];
  for (const frame of frames) {
    const reduced = reduce(state, frame);
    state = reduced.state;
    events.push(...reduced.events);
  }
  return { state, events };
}

const types = (events) => events.map((event) => event.type);

test('a first snapshot raises an event for everything in it', () => {
  const { state, events } = run([golden('welcome')]);
  assert.deepEqual(types(events), ['welcome', 'prompt', 'content', 'flow']);
  assert.equal(state.offset, 3);
  assert.equal(state.epoch, '9f2c41aa');
  assert.equal(state.slots.get('tips').message, 'advanced');
  assert.equal(state.flow.position, 1);
});

test('the same snapshot again raises nothing but the welcome', () => {
  const first = run([golden('welcome')]);
  assert.deepEqual(types(run([golden('welcome')], first.state).events), ['welcome']);
});

test('a snapshot raises events only for what differs', () => {
  const first = run([golden('welcome')]);
  const later = golden('welcome');
  later.epoch = 'another';
  later.offset = 1;
  later.prompts = [{ ...golden('prompt'), offset: 1 }];
  later.slots = {};
  later.flow.position = 2;
  const { state, events } = run([later], first.state);
  assert.deepEqual(types(events), ['welcome', 'withdraw', 'prompt', 'content', 'flow']);
  assert.equal(events[1].id, 'p-1');
  assert.equal(events[2].id, 'p-2');
  assert.equal(events[3].block, null);
  assert.equal(state.offset, 1, 'a new epoch counts from its own start');
});

test('a prompt sent again takes the place of the one before', () => {
  const survey = golden('prompt-survey');
  const { state, events } = run([golden('welcome'), { ...survey, offset: 8, survey: { ...survey.survey, answers: {} } }, survey]);
  assert.deepEqual(types(events).slice(-2), ['prompt', 'prompt']);
  assert.deepEqual([...state.prompts.keys()], ['p-1', 'p-8']);
  assert.deepEqual(state.prompts.get('p-8').survey.answers, { goal: 'teamwork' });
});

test('a snapshot raises an event for a prompt that was sent again meanwhile', () => {
  const survey = golden('prompt-survey');
  const before = run([golden('welcome'), survey]);
  const later = { ...survey, offset: 9, survey: { ...survey.survey, answers: { goal: 'teamwork', size: null } } };
  const snapshot = { ...golden('welcome'), offset: 9, prompts: [...golden('welcome').prompts, later] };
  const { state, events } = run([snapshot], before.state);
  assert.deepEqual(types(events), ['welcome', 'prompt']);
  assert.equal(state.prompts.get('p-8').survey.answers.size, null);
  assert.deepEqual(types(run([snapshot], state).events), ['welcome']);
});

test('a recovered welcome keeps what is known and the replay goes on from there', () => {
  const first = run([golden('welcome')]);
  const back = { ...golden('welcome'), recovered: true, flow: null, slots: {}, prompts: [], connection: 'c-2' };
  const { state, events } = run([back, golden('prompt'), golden('withdraw'), golden('content'), golden('flow')], first.state);
  assert.deepEqual(types(events), ['welcome', 'prompt', 'withdraw', 'content', 'flow']);
  assert.deepEqual([...state.prompts.keys()], ['p-1']);
  assert.equal(state.slots.size, 0);
  assert.equal(state.flow.variant, 'simplified');
  assert.equal(state.connection, 'c-2');
  assert.equal(state.offset, 7);
});

test('a frame at or before the position is ignored', () => {
  const first = run([golden('welcome'), golden('prompt')]);
  const again = reduce(first.state, golden('prompt'));
  assert.deepEqual(again, { state: first.state, events: [] });
});

test('messages without an offset are handed over and change nothing', () => {
  for (const name of ['ack', 'error', 'bye', 'pong']) {
    assert.deepEqual(reduce(nothing, golden(name)), { state: nothing, events: [golden(name)] });
  }
});

test('the state before is never changed', () => {
  const first = run([golden('welcome')]).state;
  const copy = structuredClone(first);
  run([golden('prompt'), golden('withdraw'), golden('content'), golden('flow')], first);
  assert.deepEqual(first, copy);
});

test('a slot may have the name of a property of every object', () => {
  const { state } = run([golden('welcome'), { ...golden('content'), slot: '__proto__', block: { message: 'm' } }]);
  assert.equal(state.slots.get('__proto__').message, 'm');
  assert.equal({}.message, undefined);
});
