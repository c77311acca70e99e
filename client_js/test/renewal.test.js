import assert from 'node:assert/strict';
import { test } from 'node:test';

import { renewIn } from '../src/renewal.js';

test('a new token is asked for a minute before the end, or sooner where tokens are short', () => {
  assert.equal(renewIn(3600), 3540_000);
  assert.equal(renewIn(60), 45_000);
  assert.equal(renewIn(4), 3_000);
  assert.equal(renewIn(0), 1_000);
  assert.equal(renewIn(10 ** 9), 2 ** 31 - 1);
});
