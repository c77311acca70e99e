// Messages that must reach the server, kept in order until it has acknowledged them, and a while longer: should the
// server lose what it wrote last, they are sent once more. Their ids make them apply once, whatever it has.

/**
 * @typedef {import('./wire.js').Kept} Kept
 * @typedef {{message: Kept, made: number, held: boolean, resolve: () => void, reject: (error: Error) => void}} Entry
 *   what is held was refused for now, so that no acknowledgement of a later one means it
 * @typedef {Entry & {acknowledged: number}} Acknowledged
 */

const MOST = 1000;
const LONGEST = 16_000; // characters of an event as JSON: what the server takes, less the time it may be given later
const LATE_MS = 2000;
const KEPT_MS = 60_000; // after its acknowledgement; what a server can lose is much younger

/**
 * The message as it will be sent, whatever the caller does with its objects afterwards. Throws where it is no JSON (it
 * goes round in a circle, or holds a BigInt) or longer than the server takes: sent, it would end every connection.
 * @param {Kept} message
 * @returns {Kept}
 */
export function pack(message) {
  const text = JSON.stringify(message);
  if (text.length > LONGEST) {
    throw new RangeError(`An event may have ${LONGEST} characters as JSON; this one has ${text.length}.`);
  }
  return JSON.parse(text);
}

export class Queue {
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Acknowledged[]} */
  #acknowledged = [];
  #most;
  #over = '';
  #doubled = -Infinity; // when something last left a second time over one connection

  constructor(most = MOST) {
    this.#most = most;
  }

  get size() {
    return this.#entries.length;
  }

  /**
   * Keep a message; the promise settles when the server has it or has refused it.
   * @param {Kept} message
   * @param {number} now milliseconds since the epoch
   * @returns {Promise<void>}
   */
  add(message, now) {
    const kept = new Promise((resolve, reject) => {
      this.#entries.push({ message, made: now, held: false, resolve: () => resolve(undefined), reject });
    });
    if (this.#over) this.abandon(this.#over);
    kept.catch(() => {}); // a caller that does not look at the promise is not told of a loss by a global error
    if (this.#entries.length > this.#most) {
      this.#entries.shift()?.reject(new Error(`More than ${this.#most} events waited for a connection.`));
    }
    return kept;
  }

  /**
   * The server has the message with this id, and all before it.
   * @param {string} id
   * @param {number} now
   * @param {boolean} alone it says nothing of those before, as the answer to a post does not
   */
  acknowledge(id, now, alone = false) {
    const index = this.#entries.findIndex((entry) => entry.message.id === id);
    if (index < 0) return;
    const before = this.#entries.splice(alone ? index : 0, alone ? 1 : index + 1);
    this.#entries.unshift(...before.filter((entry) => entry.held && entry.message.id !== id));
    for (const entry of before) {
      if (entry.held && entry.message.id !== id) continue;
      entry.resolve();
      this.#acknowledged.push({ ...entry, held: false, acknowledged: now });
    }
    this.#forget(now);
  }

  /**
   * The server may have lost what it acknowledged lately: that is to be sent again. On a connection that goes on it goes
   * behind what has left already, since an ack of that is then none of it. Where something has left twice, it would not be
   * clear which of the two an ack means: then it has to be another connection, and the answer is false.
   * @param {number} now
   * @param {boolean} goesOn
   */
  recall(now, goesOn) {
    this.#forget(now);
    const behind = goesOn && now - this.#doubled >= KEPT_MS;
    const recalled = this.#acknowledged.splice(0);
    this.#entries = behind ? [...this.#entries, ...recalled] : [...recalled, ...this.#entries];
    return behind || !goesOn;
  }

  /** @param {number} now */
  #forget(now) {
    this.#acknowledged = this.#acknowledged.filter((entry) => now - entry.acknowledged < KEPT_MS).slice(-this.#most);
  }

  /**
   * The server will not take this message; the others stand.
   * @param {string} id
   * @param {string} reason
   */
  refuse(id, reason) {
    const index = this.#entries.findIndex((entry) => entry.message.id === id);
    if (index >= 0) this.#entries.splice(index, 1)[0]?.reject(new Error(reason));
  }

  /**
   * What to send after a welcome, oldest first, over a new connection or one that `goesOn`. An event that has waited
   * carries the time it was made.
   * @param {number} now
   * @param {boolean} goesOn
   * @returns {Kept[]}
   */
  unacknowledged(now, goesOn = false) {
    if (!goesOn) this.#doubled = -Infinity;
    else if (this.#entries.length > 0) this.#doubled = now;
    for (const entry of this.#entries) entry.held = false;
    return this.#entries.map((entry) => dated(entry, now));
  }

  /**
   * The server would not take this message yet.
   * @param {string} id
   */
  hold(id) {
    const entry = this.#entries.find((each) => each.message.id === id);
    if (entry) entry.held = true;
  }

  /**
   * The oldest of those held, behind all others from now on, to be sent again.
   * @param {number} most
   * @param {number} now
   * @returns {Kept[]}
   */
  release(most, now) {
    const held = this.#entries.filter((entry) => entry.held).slice(0, most);
    for (const entry of held) this.again(entry.message.id);
    return held.map((entry) => dated(entry, now));
  }

  /**
   * The message with this id, which is to be sent again: behind all others, since an ack of theirs is then none of it.
   * @param {string} id
   */
  again(id) {
    const index = this.#entries.findIndex((entry) => entry.message.id === id);
    const [entry] = index < 0 ? [] : this.#entries.splice(index, 1);
    if (!entry) return undefined;
    entry.held = false;
    this.#entries.push(entry);
    return entry.message;
  }

  /**
   * Nothing will be sent any more, neither what is here nor what may still be added.
   * @param {string} reason
   */
  abandon(reason) {
    this.#over = reason;
    this.#acknowledged = [];
    for (const entry of this.#entries.splice(0)) entry.reject(new Error(reason));
  }
}

/**
 * An event that has waited says when it was made.
 * @param {Entry} entry
 * @param {number} now
 * @returns {Kept}
 */
function dated({ message, made }, now) {
  return message.type === 'track' && now - made > LATE_MS ? { ...message, at: new Date(made).toISOString() } : message;
}
