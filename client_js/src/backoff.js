const FIRST_MS = 300;
const LONGEST_MS = 5_000; // so a page is back within seconds of its server

/**
 * How long to wait before trying again: doubling, bounded, and spread so that many pages do not return at once.
 * @param {number} attempt how many tries have failed in a row, from 0
 * @param {number} chance between 0 and 1
 * @returns {number} milliseconds
 */
export function backoff(attempt, chance) {
  const most = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(most * (0.5 + chance / 2));
}

/**
 * Whether a close code tells the page to come back.
 * @param {number} code
 */
export function welcomeBack(code) {
  return code < 4500 || code > 4999;
}
