// What the server's log says, in words.

const HELD = {
  busy: 'something else is on the screen',
  limit: 'it has had its share',
  cooldown: 'it is still resting',
  cap: 'enough was shown for now',
  gap: 'too soon after the last one',
  late: 'the event came too late',
};
const DID = {
  step_viewed: (p) => `Looking at “${plain(p.step)}”`,
  step_completed: (p) => `Finished “${plain(p.step)}”`,
  step_skipped: (p) => `Skipped “${plain(p.step)}”`,
  flow_completed: () => 'Finished the set-up',
  feature_used: (p) => `Used ${p.feature}`,
  prompt_shown: () => 'The message is on the screen',
  prompt_clicked: () => 'Pressed a button of the message',
  prompt_dismissed: () => 'Closed the message',
  prompt_snoozed: (p) => `Put the message off${p.for ? ` for ${p.for}` : ''}`,
};

const plain = (name) => String(name ?? '').replace(/^demo-/, '').replaceAll('-', ' ');

/** The event of a log line, for a person. */
export function eventWords(event) {
  switch (event.type) {
    case 'track':
      return DID[event.name]?.(event.properties ?? {}) ?? event.name;
    case 'identify':
      return `Profile: ${Object.values(event.traits).filter(Boolean).join(', ')}`;
    case 'connected':
      return 'A tab connected';
    case 'disconnected':
      return 'A tab left';
    case 'activity':
      return event.visible ? 'Moved again' : 'Tab hidden';
    default:
      return 'Time passed';
  }
}

/** What became of a trigger: [word, reason]. */
export function verdictWords({ outcome, reason, detail }) {
  switch (outcome) {
    case 'fired':
      return ['fired', ''];
    case 'suppressed':
      return ['held', `${HELD[reason] ?? reason}${detail ? `: ${detail}` : ''}`];
    case 'not-met':
      return ['not met', reason];
    default:
      return [outcome, detail || reason];
  }
}

/** What a trigger that fired does. */
export function deedWords({ action, value, variant }) {
  const chosen = variant ? ` (${variant})` : '';
  switch (action) {
    case 'prompt':
      return `shows “${plain(value)}”${chosen}`;
    case 'withdraw':
      return `makes room: takes “${plain(value)}” away`;
    case 'flow':
      return `changes the steps to ${plain(value.replace('demo-setup/', ''))}`;
    case 'content':
      return value.message ? `fills the slot ${plain(value.slot)} with “${plain(value.message)}”` : `empties the slot ${plain(value.slot)}`;
    case 'webhook':
      return `calls the webhook ${plain(value)}`;
    case 'set':
      return Object.entries(value).map(([trait, what]) => `notes ${plain(trait.replace('demo_', ''))} = ${what}`).join(', ');
    default:
      return `${action} ${JSON.stringify(value)}`;
  }
}
