import { backoff, welcomeBack } from './backoff.js';

// One connection that outlives its transports.
//
//   dialling --welcome--> live --closed, silent or bye--> waiting --time or network--> dialling
//   any --close() or a 4500-4999 code--> over, but for one try with a new token where the old one ended
//
// WebSocket is tried first. Where it brings no welcome twice in a row the next try is server-sent events; where those do
// not either (the server is down, then), it is WebSocket's turn again.

const PATIENCE_MS = 10_000; // from dialling to the welcome
const STEADY_MS = 5_000; // a connection that lived shorter counts as a failed try
const BAD_TOKEN = 4500;
const SILENCE = 2.5; // heartbeats without a sign of life

/**
 * @typedef {import('./wire.js').ServerFrame} ServerFrame
 * @typedef {import('./wire.js').ClientFrame} ClientFrame
 * @typedef {import('./websocket.js').Dial} Dial
 * @typedef {{hello: () => Promise<import('./wire.js').Hello>, frame: (frame: ServerFrame) => void,
 *   lost: () => void, over: (code: number) => void, renewable: boolean}} Rim what the connection asks for and reports;
 *   `renewable`: `hello` brings a new token each time
 */

export class Connection {
  #base;
  #dials;
  #rim;
  /** @type {import('./websocket.js').Transport | null} */
  #transport = null;
  #dialled = 0; // tells a transport of the past from the present one
  #over = false;
  #dialling = false; // and until the transport is dropped
  #live = false;
  #failures = 0;
  #unwelcomed = 0;
  #onStream = false;
  #heardAt = 0;
  #pinged = false;
  /** @type {number | null} */
  #bidden = null;
  #retry = 0;
  #patience = 0;
  #heartbeat = 0;

  /**
   * @param {string} base the server's address
   * @param {{webSocket: Dial, eventStream: Dial}} dials
   * @param {Rim} rim
   */
  constructor(base, dials, rim) {
    this.#base = base;
    this.#dials = dials;
    this.#rim = rim;
    addEventListener('online', this.#hurry);
    document.addEventListener('visibilitychange', this.#hurry);
  }

  get live() {
    return this.#live;
  }

  get onStream() {
    return this.#onStream;
  }

  async dial() {
    const turn = ++this.#dialled;
    clearTimeout(this.#retry);
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => this.#closed(1006), PATIENCE_MS);
    this.#dialling = true;
    this.#onStream = this.#unwelcomed >= 2;
    const hello = await this.#rim.hello().catch(() => null); // a token that cannot be fetched now may be had later
    if (turn !== this.#dialled || this.#over) return;
    if (!hello) return this.#closed(1006);
    const present = () => turn === this.#dialled;
    const dial = this.#onStream ? this.#dials.eventStream : this.#dials.webSocket;
    try {
      this.#transport = dial(this.#base, hello, {
        alive: () => present() && this.#heard(),
        frame: (frame) => present() && this.#frame(frame),
        closed: (code, retryMs) => present() && this.#closed(code, retryMs),
      });
    } catch {
      this.#closed(1006); // browsers refuse some WebSockets at once, an insecure one on a secure page for instance
    }
  }

  /**
   * Sends over the present connection; what must not be lost is in the caller's queue.
   * @param {ClientFrame} message
   */
  send(message) {
    if (this.#live) this.#transport?.send(message);
  }

  close() {
    this.#end();
    this.#drop();
  }

  /** Connects anew, where the present connection is. */
  redial() {
    this.#drop();
    if (!this.#over) this.dial();
  }

  /** @param {ServerFrame} frame */
  #frame(frame) {
    if (frame.type === 'welcome') this.#begin(frame.heartbeat_s);
    this.#rim.frame(frame);
    if (frame.type === 'bye') {
      this.#bidden = frame.reconnect_ms;
      this.#closed(frame.code);
    }
  }

  /** @param {number} heartbeat seconds */
  #begin(heartbeat) {
    clearTimeout(this.#patience);
    clearInterval(this.#heartbeat);
    this.#live = true;
    this.#unwelcomed = 0;
    const began = performance.now();
    this.#heartbeat = setInterval(() => {
      if (performance.now() - began > STEADY_MS) this.#failures = 0;
      this.#beat(heartbeat * 1000);
    }, heartbeat * 1000);
  }

  /**
   * A tab in the background has its timers held back, so silence counts only when a ping went unanswered.
   * @param {number} heartbeat milliseconds
   */
  #beat(heartbeat) {
    if (this.#pinged && performance.now() - this.#heardAt > SILENCE * heartbeat) return this.#closed(1006);
    this.#pinged = true;
    this.#transport?.send({ type: 'ping' });
  }

  #heard() {
    this.#heardAt = performance.now();
    this.#pinged = false;
  }

  /**
   * @param {number} code
   * @param {number} [retryMs] how long to wait, where the server said so
   */
  #closed(code, retryMs) {
    const wasLive = this.#live;
    this.#drop();
    if (!wasLive) this.#unwelcomed = this.#onStream ? 0 : this.#unwelcomed + 1;
    const lapsed = code === BAD_TOKEN && wasLive && this.#rim.renewable;
    if (!welcomeBack(code) && !lapsed) {
      this.#end();
      this.#rim.over(code);
      return;
    }
    if (wasLive) this.#rim.lost();
    const wait = this.#bidden ?? retryMs ?? backoff(this.#failures, Math.random());
    this.#failures = this.#bidden === null ? this.#failures + 1 : this.#failures;
    this.#bidden = null;
    this.#retry = setTimeout(() => this.dial(), wait);
  }

  #drop() {
    this.#dialled++;
    this.#live = this.#dialling = this.#pinged = false;
    for (const timer of [this.#retry, this.#patience, this.#heartbeat]) clearTimeout(timer);
    this.#transport?.close();
    this.#transport = null;
  }

  #end() {
    this.#over = true;
    removeEventListener('online', this.#hurry);
    document.removeEventListener('visibilitychange', this.#hurry);
  }

  /** Somebody is looking, or the network is back: do not sit out the wait. */
  #hurry = () => {
    if (this.#over || document.hidden || this.#dialling) return;
    this.dial();
  };
}
