'use strict';
// Builds the page from the JSON in #report. Text of the data set only ever becomes text nodes and attributes.
const report = JSON.parse(document.getElementById('report').textContent);
const main = document.querySelector('main');
const className = c => report.classes[c] ?? '?';
const share = v => (100 * v).toFixed(1) + ' %';
const imageCount = n => n === 1 ? '1 image' : `${n} images`;

function section(title, ...children) {
  main.append(el('h2', {}, title), ...children);
}
const note = text => el('p', {class: 'note'}, text);
const tableOf = (head, rows, attributes = {}) => el('div', {class: 'wide'}, el('table', attributes, [
  el('tr', {}, head.map(t => el('th', {}, t))), ...rows.map(r => el('tr', {}, r.map(t => el('td', {}, t))))]));

function picture(item) {
  const image = report.images[item];
  return image.src ? el('img', {src: image.src, alt: image.path, loading: 'lazy'}) : el('p', {}, 'can no longer be read');
}

// An image with what it is and what was answered.
function answerFigure(e) {
  const right = e.label === e.answer;
  return el('figure', {}, [picture(e.item), el('figcaption', {}, [
    el('span', {class: right ? '' : 'wrong'}, `${className(e.answer)} ${share(e.confidence)}`),
    ...(right ? [] : [el('br'), `is: ${className(e.label)}`]), el('br'), report.images[e.item].path])]);
}

// An image whose label may be wrong, with what makes a fix of it.
function suspectFigure(s) {
  const path = report.images[s.item].path, label = className(s.label), suggested = className(s.suggested);
  return el('figure', {'data-path': path, 'data-label': label}, [picture(s.item), el('figcaption', {}, [
    `labelled ${label} (${share(s.confidence)})`, el('br'), path]),
    el('label', {}, [el('input', {type: 'checkbox', class: 'accept', 'data-suggested': suggested}), ` is ${suggested}`]),
    el('label', {}, [el('input', {type: 'checkbox', class: 'drop'}), ' drop']),
    el('input', {type: 'text', list: 'classes', 'aria-label': `label of ${path}`, value: label})]);
}

function unfinished() {
  const t = report.training;
  if (t) main.append(el('p', {class: 'bad'}, `Written while training, after epoch ${t.epoch} of ${t.epochs}: load the page again to see more. The test part, pictures, likely label errors and calibration come at the end.`));
}

function headline() {
  const s = report.scores;
  if (!s) return;
  const figure = (name, value, interval, minor) => el('div', {class: 'figure' + (minor ? ' minor' : '')}, [
    name, el('b', {}, value.toFixed(3)), el('small', {}, `95 % interval ${interval[0].toFixed(3)} to ${interval[1].toFixed(3)}`)]);
  main.append(el('div', {class: 'figures'}, [
    figure('Balanced accuracy', s.balanced_accuracy, s.intervals.balanced_accuracy),
    figure('Macro F1', s.macro_f1, s.intervals.macro_f1),
    figure('Accuracy', s.accuracy, s.intervals.accuracy, true)]));
  main.append(note(`On ${report.judged}, ${imageCount(s.n)}. Always answering the largest class would be right on ${share(s.majority_accuracy)} of them. ` +
    'Balanced accuracy is the mean of the classes’ recalls: each class counts the same, however many images it has.'));
}

function classesTable() {
  const s = report.scores;
  if (!s) return;
  section('Classes', tableOf(['class', 'precision', 'recall', 'F1', 'images'],
    s.classes.map(c => [c.name, c.precision.toFixed(3), c.recall.toFixed(3), c.f1.toFixed(3), String(c.n)])));
}

function confusion() {
  const s = report.scores;
  if (!s) return;
  const cells = new Map(report.cells.map(c => [`${c.label},${c.answer}`, c]));
  const gallery = el('div', {id: 'cell', 'aria-live': 'polite'});
  const open = (cell, button) => {
    for (const b of document.querySelectorAll('.confusion [aria-expanded=true]')) b.setAttribute('aria-expanded', 'false');
    button.setAttribute('aria-expanded', 'true');
    const hidden = cell.n - cell.images.length;
    gallery.replaceChildren(el('p', {}, [`is ${className(cell.label)}, answered ${className(cell.answer)}: ${imageCount(cell.n)}` +
      (hidden > 0 ? `, ${hidden} not shown` : '')]), el('div', {class: 'group'}, cell.images.map(answerFigure)));
  };
  const cellButton = (cell, text) => {
    const button = el('button', {type: 'button', 'aria-expanded': 'false', title: `is ${className(cell.label)}, answered ${className(cell.answer)}`}, text);
    button.addEventListener('click', () => open(cell, button));
    return button;
  };
  const explained = note('Rows: what the images are. Columns: what was answered.' + (report.training ? '' : ' Choose a number to see its images.'));
  if (!s.confusion) {
    const confused = report.cells.filter(c => c.label !== c.answer).sort((a, b) => b.n - a.n).slice(0, 50);
    section('Confusion', note('Too many classes for a matrix: these are confused most. Choose a number to see its images.'),
      el('div', {class: 'confusion'}, tableOf(['is', 'answered', 'images'], confused.map(c => [className(c.label), className(c.answer), c.images.length > 0 ? cellButton(c, String(c.n)) : String(c.n)]))), gallery);
    return;
  }
  const head = el('tr', {}, [el('th', {}, 'is \\ answered'), ...report.classes.map(c => el('th', {class: 'up', scope: 'col'}, c))]);
  const rows = report.classes.map((name, r) => el('tr', {}, [el('td', {}, name), ...report.classes.map((_, c) => {
    const n = s.confusion[r][c], of = s.classes[r].n, strength = of > 0 ? n / of : 0;
    const color = r === c ? '42,125,225' : '217,130,43';
    const td = el('td', {style: `background:rgba(${color},${(n > 0 ? 0.12 + 0.6 * strength : 0).toFixed(2)})`});
    const cell = cells.get(`${r},${c}`);
    td.append(cell && cell.images.length > 0 ? cellButton(cell, String(n)) : el('div', {class: n > 0 ? 'plain' : 'none'}, String(n)));
    return td;
  })]));
  section('Confusion matrix', explained, el('div', {class: 'wide'}, el('table', {class: 'confusion'}, [head, ...rows])), gallery);
}

function mistakes() {
  if (!report.mistakes) return;
  const all = report.mistakes_in_all;
  section('Worst mistakes', note(all === 0 ? 'None.' : `${all} wrong answers; those given with the most confidence first` +
    (report.mistakes.length < all ? `, ${report.mistakes.length} of them shown.` : '.')),
    ...(all > 0 ? [el('div', {class: 'group'}, report.mistakes.map(answerFigure))] : []));
}

function suspects() {
  const s = report.suspects;
  if (!s) return;
  section('Likely label errors', note(`${s.likely} of ${s.looked_at} images that the model was not trained on look as if their label were wrong` +
    (s.list.length < s.likely ? `; the ${s.list.length} most suspect are shown.` : '.') +
    (s.likely > 0 ? ' Tick the suggestion, correct the label or drop the image, save fixes.csv below and train again with --fixes fixes.csv; the files stay as they are. label_errors.csv ranks all images.' : '')),
    ...(s.likely > 0.3 * s.looked_at ? [el('p', {class: 'bad'}, 'The model disagrees with too many labels to be a judge of them: most of these will be its own mistakes. Train a better one first.')] : []),
    ...(s.list.length > 0 ? [el('div', {class: 'group'}, s.list.map(suspectFigure))] : []));
  if (s.list.length === 0) return;
  document.body.append(el('datalist', {id: 'classes'}, report.classes.map(c => el('option', {value: c}))),
    el('footer', {}, [el('a', {id: 'save', download: 'fixes.csv'}, 'Save fixes.csv'), ' (images chosen: ', el('span', {id: 'count'}, '0'), ')']));
  writeFixes();
}

function calibration() {
  const c = report.calibration;
  if (!c || !c.before) return;
  const row = (name, k) => [name, share(k.ece), k.loss.toFixed(3)];
  const holder = el('div', {class: 'cards'});
  section('Can the confidence be trusted?',
    note(`How sure the model says it is, against how often it is right. Logits are divided by the temperature ${c.temperature.toFixed(3)}, ` + (c.validation ? `fitted on the ${imageCount(c.validation)} of the validation part` : 'which the weights came with') +
      ', before they become probabilities; cairn predict does the same. The expected calibration error is how far confidence and the share of right answers lie apart, over 10 bins.'),
    tableOf(['', 'ECE', 'mean −log p'], [row('before scaling', c.before), row('after scaling', c.after)]), holder);
  drawReliability(holder, c.before, c.after);
}

function maps() {
  if (!report.maps || report.maps.length === 0) return;
  section('Where the model looked', note('Class-activation maps (Grad-CAM over the last feature map): yellow to red is what spoke for the answer.'),
    el('div', {class: 'group'}, report.maps.map(m => el('figure', {class: 'map'}, [
      el('img', {src: m.seen, alt: m.path, loading: 'lazy'}), ' ', el('img', {src: m.overlay, alt: 'class-activation map', loading: 'lazy'}),
      el('figcaption', {}, [el('span', {class: m.label === m.answer ? '' : 'wrong'}, className(m.answer)),
        ...(m.label === m.answer ? [] : [`, is: ${className(m.label)}`]), el('br'), m.path])]))));
}

function dataSet() {
  const p = report.parts;
  if (!p) return;
  const names = ['train', 'val', 'test'], sum = a => a.reduce((x, y) => x + y, 0);
  const rows = report.classes.map((c, k) => [c, ...names.map(n => String(p.counts[n][k])), String(sum(names.map(n => p.counts[n][k])))]);
  rows.push(['all', ...names.map(n => String(sum(p.counts[n]))), String(sum(names.map(n => sum(p.counts[n]))))]);
  const leak = p.leaks.length === 0
    ? el('p', {class: 'good'}, `Leak check: no two parts share a file, or copies of one image (${p.duplicate_groups} groups of copies, each kept in one part).`)
    : el('p', {class: 'bad'}, 'Leak check: parts share images' + (p.leaks_by_design ? ', as the protocol oversample-first has it: the figures are too high. ' : '. ') + p.leaks.join('; '));
  section('Data set', leak, tableOf(['class', ...names, 'all'], rows));
  const all = rows.slice(0, -1).map(r => Number(r[4])).filter(n => n > 0);
  if (all.length > 1 && Math.max(...all) > 4 * Math.min(...all))
    main.append(note(`The largest class has ${(Math.max(...all) / Math.min(...all)).toFixed(0)} times the images of the smallest: look at balanced accuracy and at the small classes' rows, not at plain accuracy.`));
}

function options() {
  if (!report.options) return;
  if (report.command) section('Do it again', el('pre', {class: 'command'}, report.command.split(' ').flatMap(word => [el('span', {}, word), ' '])));
  const text = v => v === null ? '–' : typeof v === 'string' ? v : JSON.stringify(v);
  const rows = object => Object.entries(object).map(([k, v]) => [k, text(v)]);
  main.append(el('details', {}, [el('summary', {}, 'Every option'),
    tableOf(['', ''], [...rows(report.environment ?? {}), ...rows(report.options).map(([k, v]) => ['--' + k, v])], {class: 'options'})]));
}

document.querySelector('h1').textContent = report.title;
if (typeof Chart !== 'undefined') chartColors();
unfinished();
headline();
if (report.curves && report.curves.epoch.length > 0) {
  const best = report.curves.epoch[report.curves.best.lastIndexOf(true)];
  const cards = el('div', {class: 'cards'});
  section('Curves', note(`${report.curves.epoch.length} epochs; the figures are of epoch ${best}, the best on the validation part.`), cards);
  drawCurves(cards, report.curves, best);
}
classesTable();
confusion();
mistakes();
suspects();
calibration();
maps();
dataSet();
options();
main.append(note(`cairn ${report.version}`));
if (typeof Chart !== 'undefined') chartColors();
