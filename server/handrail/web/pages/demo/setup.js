// The set-up steps. Which steps there are and where the visitor stands comes from the server; this only draws it.

const NAMES = {
  welcome: 'Welcome', workspace: 'Workspace', source: 'Source', api: 'API key', invite: 'Invite', chart: 'First chart',
};
const VARIANTS = { short: 'Short tour', expert: 'Expert set-up' };
const DONE = ['completed', 'skipped'];
let drawn = '';

/**
 * Draws the flow; `tell(event, step)` is called with step_viewed, step_completed or step_skipped.
 * A step is drawn again only when it is another one, so that what is being typed stays.
 */
export function drawSetup(flow, tell) {
  const variant = document.getElementById('variant');
  variant.textContent = VARIANTS[flow.variant] ?? '';
  variant.hidden = !variant.textContent;
  const done = flow.steps.filter((step) => DONE.includes(step.status)).length;
  document.getElementById('progress').textContent = `${done} of ${flow.steps.length} done`;
  document.getElementById('stepper').replaceChildren(...flow.steps.map((step, index) => dot(step, index, flow.position)));
  const step = flow.steps[flow.position];
  const shown = step ? step.id : 'finished';
  if (shown === drawn) return;
  const first = !drawn;
  drawn = shown;
  document.getElementById('step').replaceChildren(...body(step, tell));
  if (step) tell('step_viewed', step.id);
  else if (!first) tell('flow_completed');
}

function dot(step, index, position) {
  const item = document.createElement('li');
  const mark = document.createElement('b');
  const name = document.createElement('span');
  item.className = index === position ? 'current' : DONE.includes(step.status) ? step.status : '';
  if (index === position) item.setAttribute('aria-current', 'step');
  mark.textContent = index === position ? index + 1 : { completed: '✓', skipped: '–' }[step.status] ?? index + 1;
  name.textContent = NAMES[step.component] ?? step.component;
  item.append(mark, name);
  return item;
}

function body(step, tell) {
  const template = document.getElementById(`step-${step ? step.component : 'finished'}`);
  const content = template.content.cloneNode(true);
  const done = content.querySelector('[data-done]');
  if (done) {
    const row = document.createElement('div');
    row.className = 'buttons';
    done.replaceWith(row);
    row.append(done);
    done.addEventListener('click', () => tell('step_completed', step.id));
    if (step.skippable) row.append(skip(step, tell));
  }
  return content.children;
}

function skip(step, tell) {
  const button = document.createElement('button');
  button.className = 'plain';
  button.textContent = 'Skip';
  button.addEventListener('click', () => tell('step_skipped', step.id));
  return button;
}
