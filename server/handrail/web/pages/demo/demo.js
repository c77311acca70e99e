import { connect } from '/client/handrail.js';
import { draw, useFeature } from './chart.js';
import { drawClocks, drawStatus, followFeed } from './panel.js';
import { drawSetup } from './setup.js';

const AWAY_S = 33; // a little more than the rule's 30 seconds
const KEY = 'plotter.visitor';
const MOVES = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchmove'];
const user = visitor();
let handrail = null;
let live = '';
let stillSince = performance.now();
let returning = 0;

/** The tabs of a browser are one visitor; `?user=` makes this tab somebody else. */
function visitor() {
  const asked = new URLSearchParams(location.search).get('user');
  if (asked) return asked.startsWith('demo-') ? asked : `demo-${asked}`;
  const known = localStorage.getItem(KEY);
  return known ?? newVisitor();
}

function newVisitor() {
  const id = `demo-${Math.random().toString(36).slice(2, 8)}`;
  localStorage.setItem(KEY, id);
  return id;
}

async function arrive() {
  drawStatus('connecting', false);
  handrail = await connect({ url: location.origin, user });
  handrail.on('status', ({ online, transport }) => {
    live = transport;
    drawStatus(online ? `live over ${transport}` : 'reconnecting', online);
  });
  handrail.on('flow', showFlow);
  if (handrail.flow()) showFlow(handrail.flow());
}

function showFlow(flow) {
  if (flow.id === 'demo-setup') drawSetup(flow, (name, step) => tell(name, { ...(step && { step }), flow: flow.id }));
}

async function tell(name, properties) {
  const began = performance.now();
  await handrail.track(name, properties);
  drawStatus(`${live}, ${Math.max(1, Math.round(performance.now() - began))} ms`, true);
}

function leave() {
  handrail.close();
  drawStatus('away', false);
  document.getElementById('away').hidden = false;
  const due = Date.now() + AWAY_S * 1000;
  returning = setInterval(() => {
    const left = Math.ceil((due - Date.now()) / 1000);
    document.getElementById('clock').textContent = Math.max(0, left);
    if (left <= 0) comeBack();
  }, 200);
}

function comeBack() {
  clearInterval(returning);
  document.getElementById('away').hidden = true;
  stillSince = performance.now();
  arrive();
}

function onFeature(feature, back) {
  document.getElementById('did').textContent = useFeature(feature, back);
  tell('feature_used', { feature });
}

function onKey({ key, shiftKey, target, ctrlKey, metaKey }) {
  const typing = target.closest?.('input, select, textarea');
  if (key.toLowerCase() === 'c' && !typing && !ctrlKey && !metaKey) onFeature('charts', shiftKey);
}

async function saveProfile(event) {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(event.target));
  const saved = document.getElementById('saved');
  saved.textContent = '';
  await handrail.identify({ ...fields, first_name: fields.first_name || null });
  drawName(fields.first_name);
  saved.textContent = 'Saved';
}

function drawName(name) {
  document.getElementById('avatar').textContent = (name || '?').charAt(0).toUpperCase();
}

/** What the server knows of the visitor goes into the form, unless the visitor is at it. */
function onProfile({ traits = {} }) {
  const form = document.getElementById('profile-form');
  drawName(traits.first_name);
  if (form.matches(':focus-within') || form.dataset.touched) return;
  for (const name of ['first_name', 'persona', 'plan']) if (traits[name]) form.elements[name].value = traits[name];
}

for (const move of MOVES) addEventListener(move, () => (stillSince = performance.now()), { passive: true, capture: true });
setInterval(() => drawClocks(stillSince), 1000);
for (const button of document.querySelectorAll('[data-feature]')) {
  button.addEventListener('click', () => onFeature(button.dataset.feature));
}
const form = document.getElementById('profile-form');
form.addEventListener('submit', saveProfile);
form.addEventListener('input', () => (form.dataset.touched = 'yes'));
document.addEventListener('keydown', onKey);
document.getElementById('leave').addEventListener('click', leave);
document.getElementById('return').addEventListener('click', comeBack);
document.getElementById('twin').href = `/demo?user=${user}`;
document.getElementById('again').addEventListener('click', () => {
  newVisitor();
  location.assign('/demo');
});
addEventListener('storage', ({ key }) => key === KEY && !location.search && location.reload());
draw();
followFeed(user, onProfile);
arrive();
