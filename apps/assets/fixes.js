'use strict';
// Figures with data-path hold a tick box to drop the image (class drop), maybe a text field with its label, and
// maybe a tick box that puts another label there (class accept, data-suggested). What is chosen for an image holds
// wherever it is shown; the link's content, a fixes.csv, is made anew after each change.
const quoted = t => /[",\r\n]/.test(t) || t !== t.trim() ? '"' + t.replaceAll('"', '""') + '"' : t;
const fixFigures = () => [...document.querySelectorAll('figure[data-path]')];

function fixesText() {
  const fixes = new Map();
  for (const f of fixFigures()) {
    const drop = f.querySelector('input.drop'), label = f.querySelector('input[type=text]');
    if (drop && drop.checked) fixes.set(f.dataset.path, quoted(f.dataset.path) + ',drop,');
    else if (label && label.value.trim() && label.value.trim() !== f.dataset.label)
      fixes.set(f.dataset.path, quoted(f.dataset.path) + ',label,' + quoted(label.value.trim()));
  }
  return {count: fixes.size, text: ['path,action,label', ...fixes.values()].join('\n') + '\n'};
}

function writeFixes() {
  const link = document.getElementById('save'), fixes = fixesText();
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([fixes.text], {type: 'text/csv'}));
  document.getElementById('count').textContent = fixes.count;
  link.closest('footer').hidden = fixes.count === 0;
}

document.addEventListener('input', e => {
  const from = e.target.closest('figure[data-path]');
  if (!from) return;
  const label = from.querySelector('input[type=text]'), accept = from.querySelector('input.accept');
  if (e.target === accept && label) label.value = accept.checked ? accept.dataset.suggested : from.dataset.label;
  if (e.target === label && accept) accept.checked = label.value.trim() === accept.dataset.suggested;
  for (const f of fixFigures()) {
    if (f === from || f.dataset.path !== from.dataset.path) continue;
    for (const kind of ['input.drop', 'input.accept', 'input[type=text]']) {
      const a = f.querySelector(kind), b = from.querySelector(kind);
      if (a && b) { a.checked = b.checked; a.value = b.value; }
    }
  }
  writeFixes();
});
