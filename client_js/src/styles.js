// One sheet for all that is drawn. Pages theme it with the --handrail-* properties (`-inset-end` keeps prompts
// clear of a strip at the end side of the window); light or dark follows the page's color-scheme.
const RULES = `
.card {
  --bg: var(--handrail-background, light-dark(#fff, #202127));
  --fg: var(--handrail-color, light-dark(#1b1c22, #f2f2f5));
  --soft: var(--handrail-muted, light-dark(#5c5f6e, #a9abb8));
  --accent: var(--handrail-accent, light-dark(#3b5bdb, #8ea2ff));
  --on: var(--handrail-on-accent, light-dark(#fff, #14151a));
  --line: color-mix(in srgb, var(--fg) 12%, transparent);
  --radius: var(--handrail-radius, 14px);
  --shadow: var(--handrail-shadow, 0 0 0 1px var(--line), 0 2px 6px rgb(15 17 26 / .06), 0 18px 48px rgb(15 17 26 / .18));
  --z: var(--handrail-z-index, 2147483000);
  --end: var(--handrail-inset-end, 0px);
}
:host(handrail-prompt) { all: initial; display: block; color-scheme: inherit; }
:host([hidden]) { display: none; }
*, ::before, ::after { box-sizing: border-box; }
.card {
  position: relative; display: block; margin: 0; padding: 20px; border: 0; border-radius: var(--radius);
  background: var(--bg); color: var(--fg); box-shadow: var(--shadow);
  font: 400 15px/1.5 var(--handrail-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  text-align: start; letter-spacing: normal; overflow-wrap: anywhere;
}
.card:focus { outline: none; }
h2, p { margin: 0; }
h2 { padding-inline-end: 36px; font-size: 16px; font-weight: 640; line-height: 1.35; letter-spacing: -.008em; text-wrap: balance; }
p { margin-top: 6px; color: var(--soft); white-space: pre-line; text-wrap: pretty; }
p:first-of-type:not(h2 + p) { padding-inline-end: 32px; }
.icon { display: grid; place-items: center; width: 40px; height: 40px; margin-bottom: 14px; border-radius: 12px;
  background: color-mix(in srgb, var(--accent) 13%, transparent); color: var(--accent); font-size: 20px; line-height: 1; }
.actions { display: flex; flex-wrap: wrap; gap: 8px; margin-top: 16px; }
button, a { font: inherit; cursor: pointer; -webkit-tap-highlight-color: transparent; }
.action { display: inline-block; padding: 7px 14px; border: 0; border-radius: calc(var(--radius) * .64); background: transparent;
  color: var(--fg); font-size: 14px; font-weight: 560; line-height: 20px; text-decoration: none;
  box-shadow: inset 0 0 0 1px color-mix(in srgb, var(--fg) 18%, transparent); transition: background .12s, filter .12s; }
.action:hover { background: color-mix(in srgb, var(--fg) 6%, transparent); }
.action:first-child { background: var(--accent); color: var(--on); box-shadow: none; }
.action:first-child:hover { filter: brightness(1.08); }
.close { position: absolute; inset-block-start: 13px; inset-inline-end: 13px; display: grid; place-items: center; width: 32px;
  height: 32px; padding: 0; border: 0; border-radius: 9px; background: none; color: var(--soft); transition: background .12s; }
.close:hover { background: color-mix(in srgb, var(--fg) 8%, transparent); color: var(--fg); }
.close::before { content: ""; width: 12px; height: 12px; background: currentColor;
  clip-path: polygon(0 12%, 12% 0, 50% 38%, 88% 0, 100% 12%, 62% 50%, 100% 88%, 88% 100%, 50% 62%, 12% 100%, 0 88%, 38% 50%); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.modal { position: fixed; inset: 0; inset-inline-end: var(--end); margin: auto; width: min(440px, 100vw - var(--end) - 32px); height: fit-content;
  max-height: calc(100dvh - 32px); padding: 28px; overflow: auto; animation: rise .24s cubic-bezier(.2, .9, .3, 1.1); }
.modal h2 { font-size: 19px; letter-spacing: -.014em; }
.modal p { margin-top: 8px; }
.modal .actions { margin-top: 22px; }
.modal::backdrop { inset-inline-end: var(--end); background: var(--handrail-backdrop, rgb(15 17 26 / .48)); animation: fade .2s; }
.toast { position: fixed; z-index: var(--z); inset-block-end: 20px; inset-inline-end: calc(var(--end) + 20px); width: min(372px, 100vw - var(--end) - 40px);
  animation: slide .28s cubic-bezier(.2, .9, .3, 1.05); }
.tip { position: fixed; z-index: var(--z); inset: 0 auto auto 0; width: max-content; max-width: min(320px, 100vw - 24px);
  padding: 16px 18px; animation: fade .18s; }
.tip .actions { margin-top: 12px; }
.tip h2 { font-size: 15px; }
.tip p { font-size: 14px; }
.tip::after { content: ""; position: absolute; inset: auto auto -6px var(--tail, 24px); width: 12px; height: 12px; margin-left: -6px;
  rotate: 45deg; background: var(--bg); box-shadow: 1px 1px 0 var(--line); }
.tip.below::after { inset-block: -6px auto; box-shadow: -1px -1px 0 var(--line); }
.banner { display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: center; padding: 14px 60px 14px 20px;
  animation: drop .28s cubic-bezier(.2, .9, .3, 1.05); }
.banner.floating { position: fixed; z-index: var(--z); inset: 12px 12px auto; inset-inline-end: calc(var(--end) + 12px); max-width: 960px; margin-inline: auto; }
.banner .text { flex: 1 1 260px; }
.banner .icon, .banner .actions { margin: 0; }
.banner p { margin-top: 2px; padding: 0; font-size: 14px; }
.banner h2 { padding: 0; font-size: 15px; }
.block { box-shadow: inset 0 0 0 1px var(--line); }
.block h2, .block p { padding: 0; }
.block p { font-size: 14px; }

@keyframes fade { from { opacity: 0 } }
@keyframes rise { from { opacity: 0; transform: translateY(10px) scale(.975) } }
@keyframes slide { from { opacity: 0; transform: translateY(16px) } }
@keyframes drop { from { opacity: 0; transform: translateY(-10px) } }
@media (prefers-reduced-motion: reduce) { *, ::backdrop { animation: none !important; transition: none !important } }
@media (forced-colors: active) { .card, .action { border: 1px solid CanvasText } .close::before { background: ButtonText } }
`;

/** @type {CSSStyleSheet | undefined} */
let sheet;

/** Constructed, not written into the page, so that a page whose policy forbids inline styles can use it. */
export function styleSheet() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(RULES);
  }
  return sheet;
}
