// SPDX-License-Identifier: Apache-2.0
/** Uses the page of examples/web as a visitor, and reports what it shows. */

const find = (selector) => document.querySelector(selector);
const cells = (section, row) => [
  ...document.querySelectorAll(`${section} tr.${row} td`),
].map((cell) => cell.textContent);

async function until(condition, what) {
  const end = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Never seen: ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const isBusy = (section) =>
    find(`${section} .results`).getAttribute('aria-busy') === 'true';

/** Does something, waits for the result; returns what is shown then. */
async function after(section, action) {
  await until(() => !isBusy(section), `${section} is free`);
  action();
  await until(() => isBusy(section), `${section} computes`);
  await until(() => !isBusy(section), `${section} has a result`);
  return shown(section);
}

function shown(section) {
  const rows = ['zeros', 'accuracy', 'bytes', 'time', 'answer'];
  return {
    ...Object.fromEntries(rows.map((row) => [row, cells(section, row)])),
    summary: find(`${section} .summary`).textContent,
    classes: [...document.querySelectorAll(`${section} .class`)].map(
        (row) => row.getAttribute('aria-label')),
  };
}

function press(key, times = 1, options = {}) {
  for (let i = 0; i < times; ++i) {
    document.activeElement.dispatchEvent(
        new KeyboardEvent('keydown', {key, bubbles: true, ...options}));
  }
}

function choose(file) {
  const files = new DataTransfer();
  files.items.add(file);
  find('#picture').files = files.files;
  find('#picture').dispatchEvent(new Event('change'));
}

/** Strokes through points, each a pair of shares of the field. */
function draw(canvas, points) {
  const {left, top, width, height} = canvas.getBoundingClientRect();
  const send = (kind, [x, y]) => canvas.dispatchEvent(new PointerEvent(kind, {
    clientX: left + x * width,
    clientY: top + y * height,
    pointerId: 1,
    bubbles: true,
  }));
  canvas.setPointerCapture = () => {};  // Nothing to capture: it is no mouse.
  send('pointerdown', points[0]);
  points.forEach((point) => send('pointermove', point));
  send('pointerup', points.at(-1));
}

async function drive() {
  const report = {};
  for (const section of ['#digits', '#pictures']) {
    await until(
        () => find(`${section} .summary`)?.textContent.includes('smaller'),
        `the first result of ${section}`);
  }
  report.picture = shown('#pictures');
  report.examples = [];
  for (const button of document.querySelectorAll('.examples button')) {
    report.examples.push(await after('#digits', () => button.click()));
  }

  const canvas = find('#digits canvas');
  canvas.focus();
  press('Delete');
  report.cleared = shown('#digits');
  press(' ');
  report.pen = find('#pen-state').textContent;
  press('ArrowDown', 10);
  press('ArrowLeft', 3, {shiftKey: true});
  report.keyboard = await after('#digits', () => press(' '));
  find('#clear').click();
  report.pointer = await after('#digits', () => draw(canvas, [
    [0.5, 0.2], [0.3, 0.4], [0.3, 0.6], [0.5, 0.8], [0.7, 0.6], [0.7, 0.4],
    [0.5, 0.2],
  ]));
  // Two at once: the last one stays.
  const [zero, one] = document.querySelectorAll('.examples button');
  report.last = await after('#digits', () => {
    zero.click();
    zero.click();
    one.click();
  });
  await until(
      () => !isBusy('#digits') &&
          cells('#digits', 'answer').join() ===
              report.examples[1].answer.join(),
      'the answer to the last click');

  const red = new OffscreenCanvas(60, 40);
  red.getContext('2d').fillStyle = '#f00';
  red.getContext('2d').fillRect(0, 0, 60, 40);
  const blob = await red.convertToBlob({type: 'image/png'});
  const png = new File([blob], 'red.png', {type: 'image/png'});
  report.red = await after('#pictures', () => choose(png));
  report.name = find('#picture-name').textContent;
  choose(new File(['no picture'], 'text.png', {type: 'image/png'}));
  await until(() => !find('#error').hidden, 'an error');
  report.error = find('#error').textContent;

  report.unnamed = [...document.querySelectorAll('button, input, [tabindex]')]
      .filter((element) => !(element.getAttribute('aria-label') ||
                             element.textContent.trim() ||
                             element.closest('label')?.textContent.trim()))
      .map((element) => element.outerHTML);
  return report;
}

let report;
try {
  report = await drive();
} catch (error) {
  report = {failure: `${error.message} ${find('#error')?.textContent}`};
}
await fetch('report', {method: 'POST', body: JSON.stringify(report)});
