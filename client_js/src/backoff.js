const FIRST_MS = 300;
const LONGEST_MS = 5_000; // so a page is back within seconds of its server

const LONGEST_TOLD_MS = 60_000;

/**
 * How long to wait before trying again: anything up to a bound that doubles, so that many pages do not return at once.
 * @param {number} attempt how many tries have failed in a row, from 0
 * @param {number} chance between 0 and 1
 * @returns {number} milliseconds
 */
export function backoff(attempt, chance) {
  const most = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(most * chance);
}

/**
 * How long a refusal asks to wait, where the browser lets it be read.
 * @param {Response | null} answer
 * @returns {number | undefined} milliseconds
 */
export function retryAfter(answer) {
  const seconds = answer?.headers.get('retry-after') ?? '';
  return /^\d{1,6}$/.test(seconds) ? Math.min(Number(seconds) * 1000, LONGEST_TOLD_MS) : undefined;
}

/**
 * Whether a close code tells the page to come back.
 * @param {number} code
 */
export function welcomeBack(code) {
  return code < 4500 || code > 4999;
}
