// Whether somebody is there: edges of activity and visibility, not a stream of movements. The server holds the clock.

// Scrolling counts by what the person does (wheel, touch, keys): `scroll` itself also fires when a page moves by itself.
const SIGNS = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchmove'];
const THROTTLE_MS = 5000;

/**
 * @typedef {{visible: boolean, idle_ms: number}} Presence
 * @typedef {{presence: () => Presence, stop: () => void}} Watch
 */

/**
 * Calls `report` at once when the tab is shown or hidden, and at most every five seconds while the person is active.
 * @param {(presence: Presence) => void} report
 * @returns {Watch}
 */
export function watchActivity(report) {
  const clock = () => performance.now(); // monotonic: changing the computer's clock is not activity
  const ending = new AbortController();
  let active = clock();
  let reported = -THROTTLE_MS;
  let timer = 0;

  const presence = () => ({ visible: !document.hidden, idle_ms: Math.round(clock() - active) });
  const tell = () => {
    clearTimeout(timer);
    timer = 0;
    reported = clock();
    report(presence());
  };
  /** @param {Event} event */
  const notice = (event) => {
    // Browsers send a pointermove that did not move when the page shifts under a resting pointer.
    if (event instanceof PointerEvent && event.type === 'pointermove' && !event.movementX && !event.movementY) return;
    active = clock();
    const wait = reported + THROTTLE_MS - active;
    if (wait <= 0) tell();
    else timer ||= window.setTimeout(tell, wait);
  };
  const turn = () => {
    if (!document.hidden) active = clock();
    tell();
  };
  const options = { passive: true, capture: true, signal: ending.signal };
  for (const sign of SIGNS) addEventListener(sign, notice, options);
  document.addEventListener('visibilitychange', turn, options);
  return {
    presence,
    stop() {
      clearTimeout(timer);
      ending.abort();
    },
  };
}
