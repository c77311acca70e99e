import { readFileSync } from 'node:fs';

/**
 * A golden frame that the server's tests read too.
 * @param {string} name
 */
export function golden(name) {
  return JSON.parse(readFileSync(new URL(`../../tests/wire/${name}.json`, import.meta.url), 'utf8')).frame;
}
