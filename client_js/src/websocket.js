/**
 * @typedef {import('./wire.js').ServerFrame} ServerFrame
 * @typedef {import('./wire.js').ClientFrame} ClientFrame
 * @typedef {import('./wire.js').Hello} Hello
 * @typedef {{frame: (frame: ServerFrame) => void, alive: () => void, closed: (code: number, retryMs?: number) => void
 *   }} Ear what a transport reports; `closed` comes once, and nothing after it, with how long to wait if the server said so
 * @typedef {{send: (message: ClientFrame) => void, close: () => void}} Transport after `close` nothing is reported
 * @typedef {(base: string, hello: Hello, ear: Ear) => Transport} Dial
 */

/** @type {Dial} */
export function dialWebSocket(base, hello, ear) {
  // Who was here before says so, since the server lets them in before newcomers when everybody comes at once.
  const url = new URL(hello.epoch ? 'updates?resume=1' : 'updates', base);
  const socket = new WebSocket(url.href.replace(/^http/, 'ws'), 'handrail.v1');
  socket.onopen = () => send(hello);
  socket.onmessage = ({ data }) => {
    ear.alive();
    ear.frame(JSON.parse(data));
  };
  socket.onclose = ({ code }) => ear.closed(code);
  socket.onerror = () => ear.closed(1006); // where a page's policy forbids the connection, no close follows

  /** @param {ClientFrame} message */
  function send(message) {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }
  return {
    send,
    close() {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close(1000);
    },
  };
}
