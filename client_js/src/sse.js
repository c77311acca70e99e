import { backoff, retryAfter, welcomeBack } from './backoff.js';

const FAULTS = 5; // answers of 500 to one post, after which it is given up

// The same messages where WebSockets do not get through: down as server-sent events, up as HTTP posts in order.
// Read with fetch, not EventSource, because EventSource hides the heartbeat and the reason of a refusal.

/**
 * @typedef {import('./wire.js').ClientFrame} ClientFrame
 * @typedef {import('./wire.js').ErrorFrame} ErrorFrame
 */

/**
 * A transport whose posts carry what the ingest endpoints need to know of the sender.
 * @param {{user: () => string | undefined, connection: () => string, epoch: () => string, writeKey?: string}} sender
 * @returns {import('./websocket.js').Dial}
 */
export function eventStream(sender) {
  return (base, hello, ear) => {
    const ending = new AbortController();
    const { signal } = ending;
    const upstream = poster(base, sender, hello, signal, ear.frame);
    listen(base, hello, ear, signal);
    return {
      send: upstream,
      close: () => ending.abort(),
    };
  };
}

/**
 * @param {string} base
 * @param {import('./wire.js').Hello} hello
 * @param {import('./websocket.js').Ear} ear
 * @param {AbortSignal} signal
 */
async function listen(base, { type: _, token, ...hello }, ear, signal) {
  const url = new URL('updates/sse', base);
  for (const [key, value] of Object.entries(hello)) url.searchParams.set(key, String(value));
  let code = 1006;
  /** @type {number | undefined} */
  let wait;
  /** @param {Response} answer */
  const judge = (answer) => {
    if ([400, 401, 403].includes(answer.status)) code = 4500;
    if (answer.status === 410) code = 4504;
    if (!answer.ok) wait = retryAfter(answer);
    if (!answer.ok || !answer.body) throw new Error(`The event stream answered ${answer.status}.`);
    return answer.body;
  };
  try {
    if (token) url.searchParams.set('ticket', await fetchTicket(base, token, signal, judge));
    const body = judge(await fetch(url, { signal, cache: 'no-store', headers: { accept: 'text/event-stream' } }));
    const feed = parser((data) => {
      const frame = JSON.parse(data);
      if (frame.type === 'bye' && !welcomeBack(frame.code)) code = frame.code;
      if (!signal.aborted) ear.frame(frame);
    });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      ear.alive();
      feed(part.value);
    }
  } catch {
    // What went wrong is in `code`, as far as it can be known; the connection tries again or not.
  }
  if (!signal.aborted) ear.closed(code, wait);
}

/**
 * What opens one stream in place of the token, which is not for addresses: those end up in logs.
 * @param {string} base
 * @param {string} token
 * @param {AbortSignal} signal
 * @param {(answer: Response) => unknown} judge throws where the answer is a refusal
 * @returns {Promise<string>}
 */
async function fetchTicket(base, token, signal, judge) {
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(new URL('v1/ticket', base), { method: 'POST', headers, signal });
  judge(answer);
  return (await answer.json()).ticket;
}

/**
 * A reader of server-sent events: takes text as it comes, hands over the data of each complete event.
 * @param {(data: string) => void} emit
 * @returns {(text: string) => void}
 */
export function parser(emit) {
  let rest = '';
  /** @type {string[]} */
  let data = [];
  return (text) => {
    const held = (rest + text).endsWith('\r') ? 1 : 0; // perhaps the first half of \r\n
    const whole = rest + text;
    const lines = whole.slice(0, whole.length - held).split(/\r\n|\r|\n/);
    rest = (lines.pop() ?? '') + (held ? '\r' : '');
    for (const line of lines) {
      if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
      else if (!line && data.length) {
        emit(data.join('\n'));
        data = [];
      }
    }
  };
}

/**
 * Posts messages one after the other, each until it is taken or refused; one on which the server fails again and again
 * holds up those behind it only so long.
 * @param {string} base
 * @param {{user: () => string | undefined, connection: () => string, epoch: () => string, writeKey?: string}} sender
 * @param {import('./wire.js').Hello} hello
 * @param {AbortSignal} signal
 * @param {(frame: import('./wire.js').ServerFrame) => void} emit
 * @returns {(message: ClientFrame) => void}
 */
function poster(base, sender, hello, signal, emit) {
  let last = Promise.resolve();

  /** @param {ClientFrame} message */
  async function post(message) {
    const { path, ...body } = request(message);
    const who = { userId: sender.user(), anonymousId: hello.anonymous_id, writeKey: sender.writeKey };
    let faults = 0;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const epoch = sender.epoch();
      const answer = await fetch(new URL(path, base), {
        method: 'POST',
        body: JSON.stringify({ ...who, ...body, sentAt: new Date().toISOString() }),
        headers: hello.token ? { authorization: `Bearer ${hello.token}` } : {},
        keepalive: true,
        signal,
      }).catch(() => null);
      if (answer?.ok) return accepted(message, epoch);
      if (answer?.status === 401 && hello.token) return; // its token is over, so the stream ends, and the next sends it
      if (answer?.status === 500) faults++;
      if (answer && answer.status !== 429 && (answer.status < 500 || faults === FAULTS)) {
        return refused(message, await answer.text().catch(() => '')); // cut off, it is a refusal all the same
      }
      await new Promise((resolve) => setTimeout(resolve, retryAfter(answer) ?? backoff(attempt, Math.random())));
    }
  }

  /** @param {ClientFrame} message */
  function request(message) {
    switch (message.type) {
      case 'track': {
        const { id, name, properties, at } = message;
        return { path: 'v1/track', messageId: id, event: name, properties, timestamp: at };
      }
      case 'identify':
        return { path: 'v1/identify', messageId: message.id, traits: message.traits };
      case 'activity': {
        const { visible, idle_ms } = message;
        return { path: 'v1/activity', connection: sender.connection(), visible, idle_ms };
      }
      default:
        throw new TypeError(`A ${message.type} is not posted.`);
    }
  }

  /**
   * What was taken in another epoch may be lost since; the welcome of this one had it sent again.
   * @param {ClientFrame} message
   * @param {string} epoch when it left
   */
  function accepted(message, epoch) {
    if ('id' in message && !signal.aborted && epoch === sender.epoch()) emit({ type: 'ack', up_to: message.id });
  }

  /**
   * @param {ClientFrame} message
   * @param {string} text
   */
  function refused(message, text) {
    const { code = 'refused', detail = 'The server refused this.', fix = '' } = problem(text);
    if (!signal.aborted) emit({ type: 'error', code, message: detail, fix, id: 'id' in message ? message.id : undefined });
  }

  return (message) => {
    if (['ping', 'hello', 'token'].includes(message.type)) return; // the stream has a heartbeat and a query
    last = last.then(() => post(message));
  };
}

/**
 * @param {string} text
 * @returns {{code?: string, detail?: string, fix?: string}}
 */
function problem(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
