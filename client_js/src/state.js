// What the server has told this page, as a value, and the one function that changes it.

/**
 * @typedef {import('./wire.js').ServerFrame} ServerFrame
 * @typedef {import('./wire.js').NumberedFrame} NumberedFrame
 * @typedef {import('./wire.js').WelcomeFrame} WelcomeFrame
 * @typedef {{epoch: string, offset: number, session: string | null, connection: string,
 *   flow: import('./wire.js').FlowView | null, slots: ReadonlyMap<string, import('./wire.js').Block>,
 *   prompts: ReadonlyMap<string, import('./wire.js').Prompt>}} State
 * @typedef {{state: State, events: ServerFrame[]}} Reduced
 */

/** @type {State} */
export const nothing = {
  epoch: '', offset: 0, session: null, connection: '', flow: null, slots: new Map(), prompts: new Map(),
};

/**
 * The state after a frame, and the frames to hand to listeners: none for what was already known.
 * @param {State} state
 * @param {ServerFrame} frame
 * @returns {Reduced}
 */
export function reduce(state, frame) {
  switch (frame.type) {
    case 'welcome':
      return frame.recovered ? { state: { ...state, ...header(frame) }, events: [frame] } : snapshot(state, frame);
    case 'prompt':
    case 'withdraw':
    case 'content':
    case 'flow':
      if (frame.offset <= state.offset) return { state, events: [] };
      return { state: apply({ ...state, offset: frame.offset }, frame), events: [frame] };
    default:
      return { state, events: [frame] };
  }
}

/** @param {WelcomeFrame} frame */
function header({ epoch, offset, session, connection }) {
  return { epoch, offset, session, connection };
}

/**
 * @param {State} state
 * @param {NumberedFrame} frame
 * @returns {State}
 */
function apply(state, frame) {
  switch (frame.type) {
    case 'prompt':
      return { ...state, prompts: new Map(state.prompts).set(frame.id, frame) };
    case 'withdraw':
      return { ...state, prompts: without(state.prompts, frame.id) };
    case 'content':
      return {
        ...state,
        slots: frame.block ? new Map(state.slots).set(frame.slot, frame.block) : without(state.slots, frame.slot),
      };
    case 'flow':
      return { ...state, flow: view(frame) };
  }
}

/**
 * @template V
 * @param {ReadonlyMap<string, V>} map
 * @param {string} key
 */
function without(map, key) {
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}

/** @param {import('./wire.js').FlowView} flow */
function view({ id, variant, steps, position }) {
  return { id, variant, steps, position };
}

/**
 * A full snapshot replaces what is known and raises an event for each difference only.
 * @param {State} state
 * @param {WelcomeFrame} frame
 * @returns {Reduced}
 */
function snapshot(state, frame) {
  const { offset } = frame;
  const slots = new Map(Object.entries(frame.slots ?? {}));
  const prompts = new Map((frame.prompts ?? []).map((prompt) => [prompt.id, prompt]));
  const flow = frame.flow && view(frame.flow);
  /** @type {ServerFrame[]} */
  const events = [frame];
  for (const id of state.prompts.keys()) {
    if (!prompts.has(id)) events.push({ type: 'withdraw', offset, id, reason: 'withdrawn' });
  }
  for (const [id, prompt] of prompts) {
    if (!same(prompt, state.prompts.get(id))) events.push({ ...prompt, type: 'prompt' });
  }
  for (const slot of new Set([...state.slots.keys(), ...slots.keys()])) {
    const block = slots.get(slot) ?? null;
    if (!same(block, state.slots.get(slot) ?? null)) events.push({ type: 'content', offset, slot, block });
  }
  if (flow && !same(flow, state.flow)) events.push({ ...flow, type: 'flow', offset, reason: 'snapshot' });
  return { state: { ...header(frame), flow, slots, prompts }, events };
}

/**
 * @param {unknown} a
 * @param {unknown} b
 */
function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}
