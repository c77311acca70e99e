// The product's one chart. Every feature does something to be seen; none of it has to do with Handrail.

const SVG = 'http://www.w3.org/2000/svg';
const WEEKS = {
  'All visitors': [3120, 3340, 3290, 3610, 3560, 3820, 4010, 3930, 4180, 4280, 4550, 4812],
  'On phones': [1240, 1310, 1400, 1480, 1440, 1620, 1760, 1740, 1900, 1980, 2160, 2310],
  'On computers': [1880, 2030, 1890, 2130, 2120, 2200, 2250, 2190, 2280, 2300, 2390, 2502],
};
const KINDS = ['line', 'area', 'bars'];
const FILTERS = Object.keys(WEEKS);
const view = { kind: 1, filter: 0, compare: false, alert: false };

/** Uses a feature and says what happened. */
export function useFeature(feature, back = false) {
  const turn = (at, list) => (at + (back ? list.length - 1 : 1)) % list.length;
  switch (feature) {
    case 'charts':
      view.kind = turn(view.kind, KINDS);
      break;
    case 'filters':
      view.filter = turn(view.filter, FILTERS);
      break;
    case 'compare':
      view.compare = !view.compare;
      break;
    case 'alerts':
      view.alert = !view.alert;
      break;
  }
  draw();
  return {
    charts: `Drawn as ${KINDS[view.kind]}.`,
    filters: `Showing: ${FILTERS[view.filter].toLowerCase()}.`,
    compare: view.compare ? 'Dashed: the twelve weeks before.' : 'Comparison is off.',
    alerts: view.alert ? 'You hear of it when a week falls below the line.' : 'The alert is off.',
    share: 'A live link is ready to be sent.',
    export: 'visitors.csv is ready.',
  }[feature];
}

export function draw() {
  const values = WEEKS[FILTERS[view.filter]];
  const chart = document.getElementById('chart');
  const top = 5000 * (view.filter ? 0.6 : 1);
  const x = (week) => 54 + (week * 562) / (values.length - 1);
  const y = (value) => 164 - (value / top) * 150;
  const path = (numbers) => numbers.map((value, week) => `${week ? 'L' : 'M'}${x(week)} ${y(value)}`).join('');
  const parts = [0, 0.5, 1].flatMap((share) => [
    shape('line', { class: 'grid', x1: 40, x2: 630, y1: y(top * share), y2: y(top * share) }),
    shape('text', { x: 0, y: y(top * share) + 4 }, `${(top * share) / 1000}k`),
  ]);
  values.forEach((_, week) => {
    if (week % 3 === 2) parts.push(shape('text', { x: x(week), y: 184, 'text-anchor': 'middle' }, `Week ${week + 1}`));
  });
  if (KINDS[view.kind] === 'bars') {
    values.forEach((value, week) =>
      parts.push(shape('rect', { class: 'bar', x: x(week) - 13, y: y(value), width: 26, height: 164 - y(value), rx: 4 })),
    );
  } else {
    if (KINDS[view.kind] === 'area') parts.push(shape('path', { class: 'area', d: `${path(values)}L616 164L54 164Z` }));
    parts.push(shape('path', { class: 'line', d: path(values) }));
    parts.push(shape('circle', { class: 'mark', cx: 616, cy: y(values.at(-1)), r: 4.5 }));
  }
  if (view.compare) parts.push(shape('path', { class: 'before', d: path(values.map((value, week) => value * (0.74 + week / 90))) }));
  if (view.alert) parts.push(shape('line', { class: 'alert', x1: 40, x2: 630, y1: y(top * 0.55), y2: y(top * 0.55) }));
  chart.replaceChildren(...parts);
  document.getElementById('figure').textContent = values.at(-1).toLocaleString('en');
  document.getElementById('change').textContent = `+${((values.at(-1) / values.at(-4) - 1) * 100).toFixed(1)} %`;
  for (const [feature, on] of [['compare', view.compare], ['alerts', view.alert]]) {
    document.getElementById(`feature-${feature}`).setAttribute('aria-pressed', on);
  }
}

function shape(name, attributes, text = '') {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}
