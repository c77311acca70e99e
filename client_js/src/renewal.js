const EARLY_S = 60;
const SOONEST_MS = 1_000;
const LONGEST_MS = 2 ** 31 - 1; // what a browser's timer can wait

/**
 * How long to wait before asking for a new token: well before the end of the present one.
 * @param {number} seconds for which the present one is good
 * @returns {number} milliseconds
 */
export function renewIn(seconds) {
  const wait = (seconds - Math.min(EARLY_S, seconds / 4)) * 1000;
  return Math.round(Math.min(LONGEST_MS, Math.max(SOONEST_MS, wait)));
}
