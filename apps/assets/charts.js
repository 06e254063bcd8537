'use strict';
// What the pages' scripts share, and the curves and the reliability diagram, drawn by Chart.js where the page has it, else as tables.
function el(name, attributes = {}, children = []) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) if (v !== undefined && v !== false) e.setAttribute(k, v === true ? '' : v);
  for (const child of [children].flat()) e.append(child);
  return e;
}

const dark = matchMedia('(prefers-color-scheme: dark)');
const palette = ['#2a7de1', '#d9822b', '#2f9e6e'];
const drawn = [];

function chartColors() {
  const text = dark.matches ? '#d8dade' : '#33363b', grid = dark.matches ? '#ffffff1f' : '#0000001a';
  Chart.defaults.color = text;
  Chart.defaults.borderColor = grid;
  for (const chart of drawn) {
    for (const scale of Object.values(chart.options.scales)) {
      scale.grid.color = grid;
      scale.ticks.color = text;
      scale.title.color = text;
    }
    chart.options.plugins.legend.labels.color = text;
    chart.update('none');
  }
}

const numberText = v => v === null || v === undefined ? '' : Math.abs(v) >= 0.001 || v === 0 ? v.toFixed(3) : v.toExponential(2);

function tableChart(holder, xTitle, labels, series) {
  const table = el('table', {}, [el('tr', {}, [xTitle, ...series.map(s => s.label)].map(t => el('th', {}, t)))]);
  labels.forEach((x, i) => table.append(el('tr', {}, [String(x), ...series.map(s => numberText(s.data[i]))].map(t => el('td', {}, t)))));
  holder.append(el('div', {class: 'wide'}, table));
}

// series: [{label, data, type?, ...}], one value for each of labels.
function drawChart(parent, {title, labels, series, xTitle, yTitle, min, max, marked}) {
  const holder = el('div', {class: 'chart'});
  parent.append(el('section', {class: 'card'}, [el('h3', {}, title), holder]));
  if (typeof Chart === 'undefined') return tableChart(holder, xTitle, labels, series);
  const canvas = el('canvas', {role: 'img', 'aria-label': title});
  holder.append(canvas);
  const axis = text => ({grid: {}, ticks: {maxRotation: 0, autoSkip: true}, title: {display: true, text}});
  drawn.push(new Chart(canvas, {
    type: 'line',
    data: {
      labels,
      datasets: series.map((s, k) => ({
        borderColor: palette[k], backgroundColor: s.type === 'bar' ? palette[k] + '88' : palette[k], borderWidth: 2, tension: 0,
        pointRadius: labels.length > 60 ? 0 : labels.map(x => x === marked ? 5 : 2.5), spanGaps: true, ...s})),
    },
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, interaction: {mode: 'index', intersect: false},
      plugins: {legend: {display: series.length > 1, labels: {boxWidth: 16, boxHeight: 3}}},
      scales: {x: axis(xTitle), y: {...axis(yTitle), min, max, beginAtZero: true}},
    },
  }));
}

function drawCurves(parent, c, best) {
  if (!c || !c.epoch || c.epoch.length === 0) return;
  const common = {labels: c.epoch, xTitle: 'epoch', marked: best};
  const has = name => c[name] && c[name].some(v => v !== null);
  const loss = [{label: 'training', data: c.train_loss}];
  if (has('val_loss')) loss.push({label: 'validation', data: c.val_loss});
  drawChart(parent, {...common, title: 'Loss', series: loss, yTitle: 'loss'});
  if (has('val_accuracy'))
    drawChart(parent, {...common, title: 'Accuracy on the validation part', yTitle: 'share', max: 1, series: [
      {label: 'balanced accuracy', data: c.val_balanced_accuracy}, {label: 'macro F1', data: c.val_macro_f1},
      {label: 'accuracy', data: c.val_accuracy}]});
  drawChart(parent, {...common, title: 'Learning rate', series: [{label: 'learning rate', data: c.lr}], yTitle: 'at the end of the epoch'});
  drawChart(parent, {...common, title: 'Waiting for data', series: [{label: 'data wait', data: c.data_wait.map(v => v * 100)}], yTitle: '% of the time', max: 100});
}

function drawReliability(parent, before, after) {
  const labels = before.bins.map((_, k) => `${k * 10}–${(k + 1) * 10} %`);
  const shares = c => c.bins.map(b => b.n > 0 ? b.accuracy : null);
  drawChart(parent, {title: 'Reliability', labels, xTitle: 'confidence', yTitle: 'share answered rightly', min: 0, max: 1, series: [
    {label: 'as it should be', data: labels.map((_, k) => (k + 0.5) / 10), borderDash: [6, 4], pointRadius: 0, borderColor: '#888', backgroundColor: '#888'},
    {label: 'before scaling', data: shares(before), type: 'bar', backgroundColor: palette[1] + '77', borderColor: palette[1]},
    {label: 'after scaling', data: shares(after), type: 'bar', backgroundColor: palette[0] + 'aa', borderColor: palette[0]}]});
}

if (typeof Chart !== 'undefined') dark.addEventListener('change', chartColors);
