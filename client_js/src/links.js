/**
 * The absolute address of a link that came from the server, or null unless it is http(s), mailto or relative.
 * @param {unknown} address
 * @param {string} base the page's own address
 * @returns {string | null}
 */
export function safeLink(address, base) {
  if (typeof address !== 'string') return null;
  try {
    const url = new URL(address, base);
    return ['https:', 'http:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
