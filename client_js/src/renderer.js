import { safeLink } from './links.js';
import { styleSheet } from './styles.js';

// Draws prompts and slots. Server text goes into text nodes only; every drawing has its own open shadow root.

const SLOT = 'data-handrail-slot';
const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * @typedef {import('./wire.js').Prompt} Prompt
 * @typedef {import('./wire.js').Block} Block
 * @typedef {import('./wire.js').Button} Button
 * @typedef {(name: string, properties: Record<string, unknown>) => void} Act tells the server what the person did
 * @typedef {{host: HTMLElement, card: HTMLElement, close: () => void}} Drawing
 */

export class Renderer {
  #act;
  /** @type {Map<string, Drawing>} */
  #drawn = new Map();
  /** @type {Set<string>} */
  #handled = new Set();
  /** @type {Map<string, Block>} */
  #blocks = new Map();
  /** @type {WeakMap<Element, Block | null>} */
  #filled = new WeakMap();
  #watcher = new MutationObserver(() => this.#fillAll());

  /** @param {Act} act */
  constructor(act) {
    this.#act = act;
    this.#watcher.observe(document.documentElement, { childList: true, subtree: true });
  }

  /** @param {Prompt} prompt */
  show(prompt) {
    if (prompt.kind === 'email' || this.#handled.has(prompt.id)) return;
    const { id } = prompt;
    const known = this.#drawn.has(id);
    this.withdraw(id); // one sent again takes its place
    const drawing = draw(prompt, (deed, properties) => {
      this.#handled.add(id); // at once, and even if the server hears of it only after a reconnect
      this.withdraw(id);
      this.#act(deed, { prompt: id, ...properties });
    });
    this.#drawn.set(id, drawing);
    if (!known) this.#act('prompt_shown', { prompt: id });
    const left = Date.parse(prompt.expires_at ?? '') - Date.now();
    // Not positive: this computer's clock is ahead, since the server sends none that have expired. It will withdraw it.
    if (left > 0) setTimeout(() => this.withdraw(id), Math.min(left, LONGEST_TIMER));
  }

  /** @param {string} id */
  withdraw(id) {
    this.#drawn.get(id)?.close();
    this.#drawn.delete(id);
  }

  /**
   * @param {string} slot
   * @param {Block | null} block
   */
  fill(slot, block) {
    if (block) this.#blocks.set(slot, block);
    else this.#blocks.delete(slot);
    this.#fillAll();
  }

  clear() {
    this.#watcher.disconnect();
    this.#blocks.clear();
    this.#fillAll();
    for (const id of [...this.#drawn.keys()]) this.withdraw(id);
  }

  #fillAll() {
    for (const element of document.querySelectorAll(`[${SLOT}]`)) {
      const block = this.#blocks.get(element.getAttribute(SLOT) ?? '') ?? null;
      if ((this.#filled.get(element) ?? null) === block) continue;
      this.#filled.set(element, block);
      const root = shadowOf(element);
      if (!root) continue;
      root.adoptedStyleSheets = [styleSheet()];
      // An empty slot shows what the page itself put there.
      root.replaceChildren(block ? this.#blockCard(block) : document.createElement('slot'));
    }
  }

  /** @param {Block} block */
  #blockCard(block) {
    return card('block', block, (deed, properties) => this.#act(deed, { message: block.message, ...properties }));
  }
}

/**
 * @param {Prompt} prompt
 * @param {Act} act
 * @returns {Drawing}
 */
function draw(prompt, act) {
  const host = document.createElement('handrail-prompt');
  host.dataset.kind = prompt.kind;
  host.dataset.message = prompt.message;
  host.attachShadow({ mode: 'open' }).adoptedStyleSheets = [styleSheet()];
  switch (prompt.kind) {
    case 'modal':
      return drawModal(host, prompt, act);
    case 'banner':
      return drawBanner(host, prompt, act);
    case 'tooltip':
    case 'hotspot':
      return find(prompt.anchor) ? drawTip(host, prompt, act) : drawToast(host, prompt, act);
    default:
      return drawToast(host, prompt, act);
  }
}

/**
 * The browser's own dialog: it is on top, the page behind it is inert, and the focus goes back where it was.
 * @param {HTMLElement} host
 * @param {Prompt} prompt
 * @param {Act} act
 * @returns {Drawing}
 */
function drawModal(host, prompt, act) {
  const dialog = document.createElement('dialog');
  dress(dialog, 'modal', prompt, act);
  dialog.setAttribute('role', 'dialog');
  dialog.setAttribute('aria-modal', 'true');
  dialog.tabIndex = -1;
  dialog.append(closeButton(act));
  dialog.addEventListener('cancel', (event) => {
    event.preventDefault();
    act('prompt_dismissed', {});
  });
  dialog.addEventListener('keydown', (event) => keepFocus(event, dialog));
  const before = deepFocus();
  place(host, dialog, document.body);
  dialog.showModal();
  dialog.focus(); // not a button: somebody may be typing
  const close = () => {
    dialog.close();
    host.remove();
    if (before?.isConnected) before.focus();
  };
  return { host, card: dialog, close };
}

/**
 * @param {HTMLElement} host
 * @param {Prompt} prompt
 * @param {Act} act
 * @returns {Drawing}
 */
function drawToast(host, prompt, act) {
  return drawQuiet(host, card('toast', prompt, act), 'status', act, document.body);
}

/**
 * In the flow at the head of its anchor, or across the top of the window.
 * @param {HTMLElement} host
 * @param {Prompt} prompt
 * @param {Act} act
 * @returns {Drawing}
 */
function drawBanner(host, prompt, act) {
  const anchor = find(prompt.anchor);
  const banner = card(anchor ? 'banner' : 'banner floating', prompt, act);
  return drawQuiet(host, banner, 'region', act, anchor ?? document.body);
}

/**
 * @param {HTMLElement} host
 * @param {Prompt} prompt
 * @param {Act} act
 * @returns {Drawing}
 */
function drawTip(host, prompt, act) {
  const tip = card('tip', prompt, act);
  const drawing = drawQuiet(host, tip, 'status', act, document.body);
  const ending = new AbortController();
  let frame = 0;
  const follow = () => {
    frame = 0;
    const anchor = find(prompt.anchor);
    host.hidden = !anchor?.getClientRects().length;
    if (anchor) position(tip, anchor.getBoundingClientRect());
  };
  const soon = () => void (frame ||= requestAnimationFrame(follow));
  const options = { capture: true, passive: true, signal: ending.signal };
  for (const moved of ['scroll', 'resize']) addEventListener(moved, soon, options);
  const sizes = new ResizeObserver(soon); // the page's layout may shift without a scroll
  sizes.observe(document.body);
  find(prompt.anchor)?.scrollIntoView?.({ block: 'nearest' });
  follow();
  const close = () => {
    ending.abort();
    sizes.disconnect();
    cancelAnimationFrame(frame);
    drawing.close();
  };
  return { ...drawing, close };
}

/**
 * Above the anchor where there is room, else below; never off the sides.
 * @param {HTMLElement} tip
 * @param {DOMRect} anchor
 */
function position(tip, anchor) {
  const gap = 12;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const below = anchor.top < height + 2 * gap;
  const middle = anchor.left + anchor.width / 2;
  const left = Math.max(gap, Math.min(middle - width / 2, document.documentElement.clientWidth - width - gap));
  tip.classList.toggle('below', below);
  tip.style.translate = `${left}px ${below ? anchor.bottom + gap : anchor.top - height - gap}px`;
  tip.style.setProperty('--tail', `${Math.max(18, Math.min(middle - left, width - 18))}px`);
}

/**
 * A prompt that leaves the page usable: announced, and Escape inside it dismisses it.
 * @param {HTMLElement} host
 * @param {HTMLElement} content
 * @param {string} role
 * @param {Act} act
 * @param {Element} parent
 * @returns {Drawing}
 */
function drawQuiet(host, content, role, act, parent) {
  content.setAttribute('role', role);
  content.append(closeButton(act));
  content.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') act('prompt_dismissed', {});
  });
  place(host, content, parent);
  return { host, card: content, close: () => host.remove() };
}

/**
 * @param {HTMLElement} host
 * @param {HTMLElement} content
 * @param {Element} parent
 */
function place(host, content, parent) {
  host.shadowRoot?.append(content);
  if (parent === document.body) parent.append(host);
  else parent.prepend(host);
}

/**
 * @param {string} look
 * @param {Prompt | Block} message
 * @param {Act} act
 */
function card(look, message, act) {
  const element = document.createElement('div');
  dress(element, look, message, act);
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {string} look
 * @param {Prompt | Block} message
 * @param {Act} act
 */
function dress(element, look, { title, body, actions = [], style = {} }, act) {
  element.className = `card ${look}`;
  const text = make('div', 'text');
  const heading = title ? make('h2', '', title) : null;
  const words = body ? make('p', '', body) : null;
  text.append(...[heading, words].filter((part) => part !== null));
  if (heading) {
    heading.id = 'title';
    element.setAttribute('aria-labelledby', 'title');
    if (words) element.setAttribute('aria-describedby', (words.id = 'body'));
  } else if (body) {
    element.setAttribute('aria-label', body);
  }
  if (typeof style.icon === 'string') {
    const icon = make('div', 'icon', style.icon);
    icon.setAttribute('aria-hidden', 'true');
    element.append(icon);
  }
  if (typeof style.accent === 'string' && CSS.supports('color', style.accent)) {
    element.style.setProperty('--accent', style.accent);
  }
  element.append(text);
  if (actions.length) {
    const row = make('div', 'actions');
    row.append(...actions.map((action, index) => actionButton(action, index, act)));
    element.append(row);
  }
}

/**
 * @param {Button} action
 * @param {number} index
 * @param {Act} act
 */
function actionButton({ label, do: deed }, index, act) {
  const link = deed !== 'dismiss' ? safeLink(deed.url, document.baseURI) : null;
  const button = link ? make('a', 'action', label) : make('button', 'action', label);
  if (button instanceof HTMLAnchorElement && link) {
    button.href = link;
    if (link.startsWith('http') && new URL(link).origin !== location.origin) {
      button.target = '_blank';
      button.rel = 'noopener noreferrer';
    }
  }
  button.addEventListener('click', () => {
    if (deed === 'dismiss') act('prompt_dismissed', {});
    else if (deed.snooze) act('prompt_snoozed', { for: deed.snooze });
    else act('prompt_clicked', { action: index });
  });
  return button;
}

/** @param {Act} act */
function closeButton(act) {
  const button = make('button', 'close');
  button.setAttribute('aria-label', 'Close');
  button.addEventListener('click', () => act('prompt_dismissed', {}));
  return button;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} look
 * @param {string} [text]
 */
function make(tag, look, text = '') {
  const element = document.createElement(tag);
  if (look) element.className = look;
  element.textContent = text;
  if (element instanceof HTMLButtonElement) element.type = 'button';
  return element;
}

/**
 * Tab goes round inside the dialog; the browser alone would let it out to its own controls.
 * @param {KeyboardEvent} event
 * @param {HTMLElement} dialog
 */
function keepFocus(event, dialog) {
  if (event.key !== 'Tab') return;
  const stops = /** @type {NodeListOf<HTMLElement>} */ (dialog.querySelectorAll('button, a'));
  const root = /** @type {ShadowRoot} */ (dialog.getRootNode());
  const first = stops[0];
  const last = stops[stops.length - 1];
  const at = root.activeElement;
  if (event.shiftKey ? at === first || at === dialog : at === last) {
    event.preventDefault();
    (event.shiftKey ? last : first)?.focus();
  }
}

/** @param {Element} element */
function shadowOf(element) {
  try {
    return element.shadowRoot ?? element.attachShadow({ mode: 'open' });
  } catch {
    console.warn(`Handrail: a <${element.localName}> cannot be a slot; mark a div inside it instead.`);
    return null; // and the other slots are filled
  }
}

/** @returns {HTMLElement | null} */
function deepFocus() {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element instanceof HTMLElement && element !== document.body ? element : null;
}

/**
 * @param {string | null | undefined} anchor
 * @returns {Element | null}
 */
function find(anchor) {
  try {
    return anchor ? document.querySelector(anchor) : null;
  } catch {
    return null; // not a selector
  }
}
