// What the console does beyond plain pages: keys, copy, times that pass, and pages that are
// brought up to date when a watch moves. Without it everything works.
'use strict';

document.documentElement.classList.add('scripted');

const rows = () => [...document.querySelectorAll('a.row')];
const typing = (target) => target.closest('input, select, textarea, [contenteditable]');

// Keys.

let prefix = '';
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && typing(event.target)) {
    event.target.blur();
    return;
  }
  if (typing(event.target) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const go = prefix === 'g' && { o: '/', w: '/watches', d: '/deliveries', e: '/events' }[event.key];
  prefix = event.key;
  if (go) {
    location.assign(go);
    return;
  }
  const act = {
    '/': () => document.querySelector('[data-search]')?.focus(),
    'j': () => step(1),
    'k': () => step(-1),
    '?': () => document.getElementById('keys')?.showModal(),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// step moves the focus to another row of the page's lists.
function step(by) {
  const all = rows();
  const at = all.indexOf(document.activeElement);
  const to = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
  all[to]?.focus();
}

// Copy: a button with data-copy="id" copies the text of the element.

document.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Select and copy it by hand';
  }
  setTimeout(() => { button.textContent = said; }, 2000);
});

// Times that pass. The server has written them once; here they go on.

function duration(ms) {
  const s = ms / 1000;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

function tell() {
  for (const time of document.querySelectorAll('time[datetime]')) {
    const passed = Date.now() + skew - Date.parse(time.dateTime);
    const text = Math.abs(passed) < 1000 ? 'now' : passed > 0 ? `${duration(passed)} ago` : `in ${duration(-passed)}`;
    if (time.textContent !== text) time.textContent = text;
  }
}

// Pages that move: the page is fetched again, and what differs is changed in place, so that
// focus, scrolling and what is being typed stay.

const live = document.body.dataset.live;
const moves = live || document.querySelector('[data-refresh]');
let skew = Date.parse(document.body.dataset.now) - Date.now(); // of this machine's clock
let fetching = false;
let again = false;
let failures = 0; // one after another
let seenAt = new Date(); // when the relay said last what is shown
let timer;

async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  clearTimeout(timer);
  try {
    const response = await fetch(location.href, { headers: { Accept: 'text/html' }, signal: AbortSignal.timeout(15000) });
    if (response.redirected && new URL(response.url).pathname === '/login') {
      location.assign(response.url);
      return;
    }
    if (response.ok) show(await response.text());
    else stale(response.status === 404 ? 'it is gone' : `the relay answers ${response.status}`);
  } catch {
    stale('the relay does not answer');
  }
  setTimeout(() => {
    fetching = false;
    if (again) {
      again = false;
      refresh();
    }
  }, live === 'any' ? 3000 : 1000);
  schedule();
}

// show brings the page up to date.
function show(page) {
  const next = new DOMParser().parseFromString(page, 'text/html');
  skew = Date.parse(next.body.dataset.now) - Date.now();
  morph(document.getElementById('main'), next.getElementById('main'));
  document.title = next.title;
  tell();
  failures = 0;
  seenAt = new Date();
}

// stale says since when the page may be wrong, and why.
function stale(why) {
  failures++;
  const line = document.getElementById('stale');
  const text = `Not up to date since ${seenAt.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}: ${why}.`;
  if (line && line.textContent !== text) line.textContent = text;
}

// schedule looks again when the page says that something will have happened, or later each time if that fails.
function schedule() {
  clearTimeout(timer);
  const dues = [...document.querySelectorAll('[data-refresh]')].map((element) => Number(element.dataset.refresh));
  if (failures) dues.push(5);
  if (!dues.length) return;
  const due = Math.min(Math.min(...dues) * 2 ** Math.min(failures, 4), Math.max(60, ...dues));
  timer = setTimeout(() => document.hidden ? schedule() : refresh(), due * 1000);
}

const keyOf = (node) => node.dataset?.watchId || node.dataset?.key || node.id;

// inUse says whether somebody fills in the form or field.
function inUse(node) {
  const fields = node.matches('form') ? [...node.elements] : [node];
  return node.contains(document.activeElement) || fields.some(isChanged);
}

function isChanged(field) {
  if (field.matches('select')) {
    const first = !field.querySelector('[selected]');
    return [...field.options].some((option, i) => option.selected !== (option.defaultSelected || first && !i));
  }
  if (field.matches('[type=checkbox]')) return field.checked !== field.defaultChecked;
  return field.matches('input:not([type=hidden]), textarea') && field.value !== field.defaultValue;
}

// morph makes a node like another, and keeps it where it can.
function morph(node, wanted) {
  if (node.isEqualNode(wanted)) return;
  if (node.nodeType !== wanted.nodeType || node.nodeName !== wanted.nodeName || keyOf(node) !== keyOf(wanted)) {
    node.replaceWith(wanted);
    return;
  }
  if (node.nodeType !== Node.ELEMENT_NODE) {
    node.data = wanted.data;
    return;
  }
  if (node.matches('details.action[open]')) { // what is asked stays; what it is said to do may have changed
    const [said, says] = [node, wanted].map((action) => action.querySelector('p'));
    if (said && says) morph(said, says);
    return;
  }
  if (node.matches('form, input, select, textarea') && inUse(node)) return;
  if (node.dataset.status && node.dataset.status !== wanted.dataset.status) node.classList.add('changed');
  for (const { name } of [...node.attributes]) {
    if (!wanted.hasAttribute(name) && name !== 'open' && name !== 'class') node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value && !(name === 'class' && node.classList.contains('changed'))) node.setAttribute(name, value);
  }
  const kept = new Map([...node.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = node.firstChild;
  for (const child of [...wanted.childNodes]) {
    const same = keyOf(child) ? kept.get(keyOf(child)) : at && !keyOf(at) ? at : null;
    if (!same) {
      node.insertBefore(child, at);
      if (child.dataset?.watchId) child.classList.add('changed');
      continue;
    }
    if (same !== at) node.insertBefore(same, at);
    at = same.nextSibling;
    morph(same, child);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

// follow listens while the page is seen: a browser has few connections for all its tabs.
let stream;
function follow() {
  stream?.close();
  if (document.hidden) return;
  const opened = new EventSource('/live');
  stream = opened;
  let lost = false;
  opened.addEventListener('watch', (event) => {
    const { id } = JSON.parse(event.data);
    if (live === 'any' || live === id || document.querySelector(`[data-watch-id="${CSS.escape(id)}"]`)) refresh();
  });
  opened.onopen = () => {
    if (lost) refresh(); // what has moved meanwhile
    lost = false;
  };
  opened.onerror = () => {
    if (!lost) refresh(); // which says so if the relay is away
    lost = true;
    if (opened.readyState !== EventSource.CLOSED) return; // it connects again by itself
    setTimeout(() => {
      if (stream !== opened) return;
      refresh();
      follow();
    }, 15000);
  };
}

setInterval(tell, 1000);
schedule();
if (live) follow();
if (moves) {
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) refresh();
    if (live) follow();
  });
}
