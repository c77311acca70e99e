import assert from 'node:assert/strict';
import { test } from 'node:test';

import { backoff, welcomeBack } from '../src/backoff.js';

test('waits double, stay within bounds and are spread over half of their length', () => {
  assert.equal(backoff(0, 1), 300);
  assert.equal(backoff(0, 0), 150);
  assert.equal(backoff(3, 1), 2400);
  for (let attempt = 0; attempt < 2000; attempt += 7) {
    const [least, most] = [backoff(attempt, 0), backoff(attempt, 1)];
    assert.ok(least >= 150 && most <= 5_000 && least * 2 === most, `${attempt}: ${least} ${most}`);
  }
});

test('only 4500 to 4999 keep a page away', () => {
  for (const code of [1000, 1001, 1006, 1012, 4000, 4001, 4499, 5000]) assert.ok(welcomeBack(code), `${code}`);
  for (const code of [4500, 4501, 4502, 4503, 4999]) assert.ok(!welcomeBack(code), `${code}`);
});
