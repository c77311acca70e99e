import { watchActivity } from './activity.js';
import { Connection } from './connection.js';
import { Queue, pack } from './queue.js';
import { renewIn } from './renewal.js';
import { Renderer } from './renderer.js';
import { eventStream } from './sse.js';
import { nothing, reduce } from './state.js';
import { dialWebSocket } from './websocket.js';

/**
 * @typedef {import('./wire.js').ServerFrame} ServerFrame
 * @typedef {{type: 'status', online: boolean, transport: 'websocket' | 'sse', code?: number}} Status
 * @typedef {ServerFrame | Status} Message
 * @typedef {{
 *   url?: string, user?: string, token?: string | (() => string | Promise<string>), render?: boolean, writeKey?: string
 * }} Options `url` is the server's http(s) address and defaults to where this module came from; `token` may be a
 *   function, called before each connection and again before a token expires; `writeKey` is needed only for
 *   server-sent events beyond loopback
 * @typedef {{
 *   track: (name: string, properties?: Record<string, unknown>) => Promise<void>,
 *   identify: (traits: Record<string, unknown>) => Promise<void>,
 *   on: (type: string, listener: (message: any) => void) => () => void,
 *   slot: (name: string) => import('./wire.js').Block | null,
 *   flow: () => import('./wire.js').FlowView | null,
 *   prompts: () => import('./wire.js').Prompt[],
 *   close: () => void,
 * }} Handrail
 */

const KNOWN_VISITOR = 4504;
const AT_ONCE = 200; // events that go out together after the server asked to wait: fewer than it takes by then
const REASONS = new Map([
  [4500, 'The server did not accept the token or user id.'],
  [4501, 'The server could not read what this client sent.'],
  [4502, 'The server does not serve pages of this origin: add it to HANDRAIL_ORIGINS.'],
  [4503, 'This user has too many connections.'],
  [KNOWN_VISITOR, 'This visitor has become a known user: connect as the user, or load the page again as a new visitor.'],
]);

/**
 * Connects this page; resolves once the server has welcomed it, rejects if the server turns it away.
 * @param {Options} options
 * @returns {Promise<Handrail>}
 */
export function connect({ url = new URL('..', import.meta.url).href, user, token, render = true, writeKey } = {}) {
  const base = new URL(url.endsWith('/') ? url : `${url}/`, document.baseURI).href;
  const queue = new Queue();
  const listeners = new Listeners();
  const identity = { device: remembered('handrail.device'), tab: newId() };
  let state = nothing;
  let renewal = 0;
  let pause = 0; // the timer of what the server would not take yet
  let held = ''; // the latest token, for what the event stream's posts say of their sender

  return new Promise((resolve, reject) => {
    /** @type {Handrail} */
    const handrail = {
      track: (name, properties = {}) => keep({ type: 'track', id: newId(), name, properties }),
      identify: (traits) => keep({ type: 'identify', id: newId(), traits }),
      on: (type, listener) => listeners.add(type, listener),
      slot: (name) => state.slots.get(name) ?? null,
      flow: () => state.flow,
      prompts: () => [...state.prompts.values()],
      close: () => finish('The connection was closed.'),
    };
    const renderer = render ? new Renderer(act) : null;
    const place = { connection: () => state.connection, epoch: () => state.epoch };
    const sender = { user: () => user ?? subject(held), ...place, writeKey };
    const dials = { webSocket: dialWebSocket, eventStream: eventStream(sender) };
    const renewable = typeof token === 'function';
    const connection = new Connection(base, dials, { hello, frame, lost, over, renewable });
    const activity = watchActivity((presence) => connection.send({ type: 'activity', ...presence }));
    connection.dial();

    /** @returns {Promise<import('./wire.js').Hello>} */
    async function hello() {
      const { epoch, offset } = state;
      const known = epoch ? { epoch, offset } : {};
      const who = token ? { token: (held = typeof token === 'function' ? await token() : token) } : { user_id: user };
      const anonymous = user || token ? {} : { anonymous_id: identity.device };
      return { type: 'hello', ...defined(who), ...anonymous, ...identity, ...known, ...activity.presence() };
    }

    /** @param {ServerFrame} received */
    function frame(received) {
      const before = state;
      const reduced = reduce(state, received);
      state = reduced.state;
      const goesOn = state.connection === before.connection && !connection.onStream;
      const lossy = state.epoch !== before.epoch && before.epoch; // the server may have lost the latest of it
      const mixed = lossy && !queue.recall(Date.now(), goesOn);
      if (mixed) connection.redial();
      else if (received.type === 'welcome') welcomed(goesOn);
      else if (received.type === 'ack') queue.acknowledge(received.up_to, Date.now(), connection.onStream);
      else if (received.type === 'error') refused(received);
      if (received.type === 'welcome' || received.type === 'renewed') renewLater(received.token_expires_in);
      for (const event of reduced.events) raise(event);
    }

    /** @param {number | null | undefined} seconds */
    function renewLater(seconds) {
      clearTimeout(renewal);
      if (renewable && typeof seconds === 'number') renewal = setTimeout(renew, renewIn(seconds));
    }

    /** A stream hears nothing, so it is opened again; what was missed meanwhile follows. */
    async function renew() {
      if (connection.onStream) return connection.redial();
      try {
        held = typeof token === 'function' ? await token() : held;
        connection.send({ type: 'token', token: held });
      } catch {
        renewLater(0); // a token that cannot be fetched now may be had in a moment
      }
    }

    /** @param {boolean} goesOn */
    function welcomed(goesOn) {
      for (const message of queue.unacknowledged(Date.now(), goesOn)) connection.send(message);
      if (connection.onStream && document.hidden) connection.send({ type: 'activity', ...activity.presence() });
      resolve(handrail);
      listeners.open();
      listeners.raise({ type: 'status', online: true, transport: connection.onStream ? 'sse' : 'websocket' });
    }

    /** @param {import('./wire.js').ErrorFrame} error */
    function refused({ code, id, message, fix, retry_ms }) {
      if (code === 'store-down') return; // the server keeps it for later; where a bye follows, it is sent again
      if (code === 'rate-limited') return slow(retry_ms ?? 1000, id);
      const dated = code === 'far-future' && id && queue.again(id);
      if (dated) return connection.send(dated); // this computer's clock is off: as it was made, without a time
      const text = `${message} ${fix}`.trim();
      console.warn(`Handrail: ${text}`);
      if (id) queue.refuse(id, text);
    }

    /**
     * More was sent than the server takes: it goes out again when the server says, some at a time.
     * @param {number} wait
     * @param {string} [id]
     */
    function slow(wait, id) {
      if (id) queue.hold(id);
      pause ||= setTimeout(() => {
        pause = 0;
        const again = queue.release(AT_ONCE, Date.now());
        for (const message of again) connection.send(message);
        if (again.length === AT_ONCE) slow(wait);
      }, wait);
    }

    /** @param {ServerFrame} event */
    function raise(event) {
      if (event.type === 'prompt') renderer?.show(event);
      else if (event.type === 'withdraw') renderer?.withdraw(event.id);
      else if (event.type === 'content') renderer?.fill(event.slot, event.block);
      listeners.raise(event);
    }

    function lost() {
      clearTimeout(renewal);
      listeners.raise({ type: 'status', online: false, transport: connection.onStream ? 'sse' : 'websocket' });
    }

    /** @param {number} code */
    function over(code) {
      const reason = REASONS.get(code) ?? `The server turned this page away (${code}).`;
      listeners.raise({ type: 'status', online: false, transport: connection.onStream ? 'sse' : 'websocket', code });
      console.warn(`Handrail: ${reason}`);
      if (code === KNOWN_VISITOR) forget('handrail.device');
      finish(reason);
    }

    /** @param {string} reason */
    function finish(reason) {
      clearTimeout(pause);
      connection.close();
      clearTimeout(renewal);
      activity.stop();
      renderer?.clear();
      queue.abandon(reason);
      reject(new Error(reason)); // of no effect once welcomed
    }

    /** @param {import('./wire.js').Kept} given */
    function keep(given) {
      try {
        const message = pack(given);
        const kept = queue.add(message, Date.now());
        connection.send(message);
        return kept;
      } catch (error) {
        return Promise.reject(error);
      }
    }

    /**
     * What the person did with something drawn. All tabs that draw a prompt say so with one id, applied once.
     * @param {string} name
     * @param {Record<string, unknown>} properties
     */
    function act(name, properties) {
      const id = name === 'prompt_shown' ? `${state.epoch}.${properties.prompt}.shown` : newId();
      keep({ type: 'track', id, name, properties });
    }
  });
}

/** Listeners by message type. What is raised before the first `await connect()` could register any is held for them. */
class Listeners {
  /** @type {Map<string, Set<(message: any) => void>>} */
  #byType = new Map();
  /** @type {Message[] | null} */
  #held = [];
  #opening = false;

  /**
   * @param {string} type
   * @param {(message: any) => void} listener
   */
  add(type, listener) {
    const set = this.#byType.get(type) ?? new Set();
    this.#byType.set(type, set.add(listener));
    return () => void set.delete(listener);
  }

  open() {
    if (this.#opening) return;
    this.#opening = true;
    setTimeout(() => {
      const held = this.#held ?? [];
      this.#held = null;
      for (const message of held) this.raise(message);
    });
  }

  /** @param {Message} message */
  raise(message) {
    if (this.#held) return void this.#held.push(message);
    for (const listener of this.#byType.get(message.type) ?? []) {
      try {
        listener(message);
      } catch (error) {
        reportError(error); // one listener's fault is shown as such and is nobody else's
      }
    }
  }
}

/** crypto.randomUUID needs a secure page; this does not. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * An id that lasts as long as the browser lets it.
 * @param {string} key
 */
function remembered(key) {
  try {
    const id = localStorage.getItem(key) ?? newId();
    localStorage.setItem(key, id);
    return id;
  } catch {
    return newId(); // storage is off
  }
}

/** @param {string} key */
function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // storage is off: nothing was remembered
  }
}

/**
 * @template {object} T
 * @param {T} value
 * @returns {T}
 */
function defined(value) {
  return /** @type {T} */ (Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)));
}

/**
 * The user a token is for. Not verified here: only the server can, and does.
 * @param {string} token
 * @returns {string | undefined}
 */
function subject(token) {
  try {
    return JSON.parse(atob((token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'))).sub;
  } catch {
    return undefined;
  }
}

/** @type {any} */ (globalThis).Handrail = { connect };
