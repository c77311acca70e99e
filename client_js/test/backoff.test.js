import assert from 'node:assert/strict';
import { test } from 'node:test';

import { backoff, retryAfter, welcomeBack } from '../src/backoff.js';

test('waits are anything up to a bound that doubles', () => {
  assert.deepEqual([0, 1, 2, 3].map((attempt) => backoff(attempt, 1)), [300, 600, 1200, 2400]);
  for (let attempt = 0; attempt < 2000; attempt += 7) {
    assert.equal(backoff(attempt, 0), 0);
    assert.ok(backoff(attempt, 1) <= 5_000);
    assert.equal(backoff(attempt, 0.5), backoff(attempt, 1) / 2);
  }
});

test('a refusal says how long to wait, in whole seconds and not for ever', () => {
  const told = (value) => retryAfter(new Response('', { headers: value === undefined ? {} : { 'retry-after': value } }));
  assert.equal(told('7'), 7000);
  assert.equal(told('86400'), 60_000);
  for (const odd of [undefined, '', 'soon', '-1', '1.5', 'Wed, 21 Oct 2026 07:28:00 GMT']) assert.equal(told(odd), undefined);
  assert.equal(retryAfter(null), undefined);
});

test('only 4500 to 4999 keep a page away', () => {
  for (const code of [1000, 1001, 1006, 1012, 4000, 4001, 4499, 5000]) assert.ok(welcomeBack(code), `${code}`);
  for (const code of [4500, 4501, 4502, 4503, 4999]) assert.ok(!welcomeBack(code), `${code}`);
});
