// SPDX-License-Identifier: Apache-2.0
/** The page: digits and pictures, each for a dense and a sparse network. */
import {Comparison, ranked} from './comparison.js';
import {DigitPad} from './digit_pad.js';
import {Pair} from './pair.js';
import {colours, fit, landscape} from './picture.js';

const ROUNDS = 9;
const SHOWN = 3;  // Classes of a picture, per network.

const find = (selector) => document.querySelector(selector);

function showError(error) {
  const element = find('#error');
  element.textContent = error.message ?? String(error);
  element.hidden = false;
}

/** Calls a function of a user's action; errors are shown. */
function shown(action) {
  return async (...values) => {
    try {
      await action(...values);
    } catch (error) {
      showError(error);
    }
  };
}

/** Loads the two files of a section; returns what compares them. */
async function open(id, {networks}, comparison) {
  const pair = new Pair(id);
  const urls = networks.map(
      ({file}) => new URL(`models/${file}`, document.baseURI).href);
  try {
    comparison.describe(networks, await pair.load(urls));
  } catch (error) {
    comparison.clear('The networks could not be loaded.');
    throw error;
  }
  return async (pixels) => {
    comparison.busy();
    try {
      const found = await pair.compare(pixels, ROUNDS);
      if (found) comparison.show(found);
    } catch (error) {
      comparison.clear('The networks could not be computed.');
      throw error;
    }
  };
}

async function digits(models) {
  const section = find('#digits');
  section.querySelector('.about').textContent =
      `Three fully connected layers, trained on MNIST: one network dense, ` +
      `one with ${models.networks[1].method}.`;
  const all = Array.from({length: 10}, (_, digit) => digit);
  const comparison = new Comparison(section, String, () => all);
  const compare = await open('digits', models, comparison);
  const pad = new DigitPad(
      section.querySelector('canvas'), section.querySelector('.pen'),
      shown(async () => {
        const pixels = pad.pixels();
        if (pixels) {
          await compare(pixels);
        } else {
          comparison.clear('Draw a digit.');
        }
      }),
      (isDown) => find('#pen-state').textContent =
          isDown ? 'The pen is down.' : 'The pen is up.');
  const show = shown(async (pixels) => {
    pad.show(pixels);
    await compare(pixels);
  });
  for (const {label, pixels} of models.examples) {
    const bytes = Uint8Array.from(atob(pixels), (char) => char.charCodeAt(0));
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    button.setAttribute('aria-label', `A test image of ${label}`);
    button.addEventListener('click', () => show(bytes));
    section.querySelector('.examples').append(button);
  }
  find('#clear').addEventListener('click', () => pad.clear());
  section.querySelector('.examples button')?.click();
}

async function pictures(models) {
  const section = find('#pictures');
  const weights = models.trained ?
      'trained on ImageNet.' :
      'with random weights, because this package has no trained ones. Its ' +
          'answers mean nothing; its size and time are those of a trained one.';
  section.querySelector('.about').textContent =
      `MobileNet-v1 ${weights} Classes are ImageNet's, by number.`;
  const comparison = new Comparison(
      section, (number) => `class ${number}`,
      (shares) => [...new Set(
          shares.flatMap((share) => ranked(share).slice(0, SHOWN)))]);
  const compare = await open('pictures', models, comparison);
  const canvas = section.querySelector('canvas');
  const classify = async (name) => {
    find('#picture-name').textContent = name;
    await compare(colours(canvas, models.image_size));
  };
  const draw = shown(async () => {
    landscape(canvas);
    await classify('A drawn landscape.');
  });
  find('#drawn').addEventListener('click', draw);
  find('#picture').addEventListener('change', shown(async ({target}) => {
    const [file] = target.files;
    if (!file) return;
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      throw new Error(`${file.name} is no picture that this browser reads.`);
    }
    find('#error').hidden = true;
    fit(canvas, picture);
    await classify(file.name);
  }));
  await draw();
}

shown(async () => {
  const response = await fetch('models/models.json');
  if (!response.ok) throw new Error(`models.json: ${response.statusText}`);
  const models = await response.json();
  await shown(digits)(models.digits);
  await shown(pictures)(models.pictures);
})();
