// The panel on the right: a live view of the server's own log for this visitor.

import { deedWords, eventWords, verdictWords } from './words.js';

const SHOWN = 80;
const TRIES = [
  ['demo-first-skip', 'Skip a step', 'why it is worth it'],
  ['demo-skips', 'Skip a second one', 'a shorter tour'],
  ['demo-idle', 'Sit still for 15 seconds', 'help'],
  ['demo-persona-expert', 'Say you are tech-savvy', 'more options'],
  ['demo-feature-fan', 'Use one feature four times', 'a tip'],
  ['demo-became-engaged', 'Use three different features', 'engaged'],
  ['demo-away', 'Leave for 30 seconds', 'an e-mail'],
];
const tried = new Set();
let session = null;

/** Follows the feed of a visitor; `onProfile` is told the profile whenever it may have changed. */
export function followFeed(user, onProfile) {
  set('visitor', user);
  drawTries();
  const feed = new EventSource(`/demo/feed?user_id=${encodeURIComponent(user)}`);
  feed.addEventListener('open', () => document.getElementById('feed').replaceChildren());
  feed.addEventListener('line', ({ data }) => addLine(JSON.parse(data)));
  feed.addEventListener('mail', ({ data }) => addMail(JSON.parse(data)));
  feed.addEventListener('profile', ({ data }) => {
    const profile = JSON.parse(data);
    drawProfile(profile);
    onProfile(profile);
  });
  return feed;
}

export function drawStatus(text, online) {
  set('status', text);
  document.getElementById('dot').classList.toggle('on', online);
}

/** Once a second: how long the visitor has sat still, and how long the session has lasted. */
export function drawClocks(stillSince) {
  set('still', `${Math.floor((performance.now() - stillSince) / 1000)} s`);
  if (session) set('session', session.ended ? 'ended' : `${span(Date.now() - session.started)}, ${count(session.events, 'event')}`);
}

function drawProfile({ segments = [], session: latest, prompt, tabs = [] }) {
  session = latest;
  set('screen', prompt ? prompt.replace(/^demo-/, '').replaceAll('-', ' ') : 'nothing');
  document.getElementById('visitor').title = count(tabs.length, 'open tab');
  document.getElementById('segments').replaceChildren(...segments.map((name) => element('li', '', name)));
}

function addLine({ at, event, decisions, trace }) {
  if (event.type === 'activity' && !trace.length) return;
  const item = entry(at, eventWords(event));
  for (const verdict of trace) {
    if (verdict.outcome === 'fired') tried.add(verdict.trigger);
    item.append(verdictRow(verdict, verdict.outcome === 'fired' ? decisions.filter((each) => each.trigger === verdict.trigger) : []));
  }
  drawTries();
  push(item);
}

function verdictRow(verdict, deeds) {
  const [word, reason] = verdictWords(verdict);
  const row = element('div', `verdict ${verdict.outcome}`);
  row.append(element('b', '', word), element('code', '', verdict.trigger));
  if (reason) row.append(element(verdict.outcome === 'not-met' ? 'code' : 'span', 'why', reason));
  for (const deed of deeds) row.append(element('span', 'does', `→ ${deedWords(deed)}`));
  return row;
}

function addMail({ at, to, subject, text }) {
  const item = entry(at, 'The webhook was delivered: an e-mail');
  const mail = element('div', 'mail');
  mail.append(element('strong', '', subject), element('span', '', `${to === 'You' ? text : `${to}, ${text.charAt(0).toLowerCase()}${text.slice(1)}`}`));
  item.append(mail);
  push(item);
}

function entry(at, what) {
  const item = element('li', '');
  const head = element('div', 'what');
  head.append(element('time', '', new Date(at).toLocaleTimeString('en-GB')), element('span', '', what));
  item.append(head);
  return item;
}

function push(item) {
  const feed = document.getElementById('feed');
  feed.prepend(item);
  while (feed.children.length > SHOWN) feed.lastChild.remove();
}

function drawTries() {
  const items = TRIES.map(([trigger, what, brings]) => {
    const item = element('li', tried.has(trigger) ? 'done' : '');
    item.append(element('span', '', what), element('em', '', `→ ${brings}`));
    return item;
  });
  document.getElementById('tries').replaceChildren(...items);
  set('tried', `${items.filter((item) => item.className).length} of ${TRIES.length}`);
}

function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

function set(id, text) {
  document.getElementById(id).textContent = text;
}

function element(tag, look, text = '') {
  const made = document.createElement(tag);
  if (look) made.className = look;
  made.textContent = text;
  return made;
}
