import assert from 'node:assert/strict';
import { test } from 'node:test';

import { safeLink } from '../src/links.js';

const PAGE = 'https://app.example/onboarding/';

test('http, https, mailto and relative addresses are links', () => {
  assert.equal(safeLink('https://docs.example/a?b#c', PAGE), 'https://docs.example/a?b#c');
  assert.equal(safeLink('http://docs.example', PAGE), 'http://docs.example/');
  assert.equal(safeLink('step-2', PAGE), 'https://app.example/onboarding/step-2');
  assert.equal(safeLink('/help', PAGE), 'https://app.example/help');
  assert.equal(safeLink('//docs.example/x', PAGE), 'https://docs.example/x');
  assert.equal(safeLink('mailto:a@b.example', PAGE), 'mailto:a@b.example');
});

test('nothing else is', () => {
  const bad = [
    'javascript:alert(1)', 'JaVaScRiPt:alert(1)', ' \u0001javascript:alert(1)', 'java\nscript:alert(1)',
    'data:text/html,<script>1</script>', 'vbscript:x', 'blob:https://app.example/1', 'file:///etc/passwd',
    'mailtox:a@b.example', 'http://', undefined, null, 7, { href: 'https://a.example' },
  ];
  for (const address of bad) assert.equal(safeLink(address, PAGE), null, String(address));
});
