// Messages that must reach the server, kept in order until it has acknowledged them.

/**
 * @typedef {import('./wire.js').Kept} Kept
 * @typedef {{message: Kept, made: number, resolve: () => void, reject: (error: Error) => void}} Entry
 */

const MOST = 1000;
const LATE_MS = 2000;

export class Queue {
  /** @type {Entry[]} */
  #entries = [];
  #most;
  #over = '';

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
      this.#entries.push({ message, made: now, resolve: () => resolve(undefined), reject });
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
   */
  acknowledge(id) {
    const index = this.#entries.findIndex((entry) => entry.message.id === id);
    for (const entry of this.#entries.splice(0, index + 1)) entry.resolve();
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
   * What to send over a new connection, oldest first. An event that has waited carries the time it was made.
   * @param {number} now
   * @returns {Kept[]}
   */
  unacknowledged(now) {
    return this.#entries.map(({ message, made }) =>
      message.type === 'track' && now - made > LATE_MS ? { ...message, at: new Date(made).toISOString() } : message,
    );
  }

  /** @param {string} id */
  find(id) {
    return this.#entries.find((entry) => entry.message.id === id)?.message;
  }

  /**
   * Nothing will be sent any more, neither what is here nor what may still be added.
   * @param {string} reason
   */
  abandon(reason) {
    this.#over = reason;
    for (const entry of this.#entries.splice(0)) entry.reject(new Error(reason));
  }
}
