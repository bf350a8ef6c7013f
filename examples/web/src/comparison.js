// SPDX-License-Identifier: Apache-2.0
/** What is shown of a dense and a sparse network. */

const KINDS = ['dense', 'sparse'];

/** 5 -> "5 B", 53211 -> "53 kB", 2740000 -> "2.74 MB". */
export function asSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e5) return `${(bytes / 1e3).toPrecision(2)} kB`;
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  return `${(bytes / 1e6).toPrecision(3)} MB`;
}

/** 0.1234 -> "0.12 ms", 12.34 -> "12.3 ms". */
export function asTime(milliseconds) {
  if (milliseconds >= 100) return `${Math.round(milliseconds)} ms`;
  return `${milliseconds.toPrecision(milliseconds < 1 ? 2 : 3)} ms`;
}

/** 0.1234 -> "12.3 %", which no line is broken within. */
export function asPercent(share) {
  const percent = 100 * share;
  return `${percent.toFixed(percent > 0 && percent < 99.95 ? 1 : 0)}\u00a0%`;
}

export function softmax(logits) {
  const largest = Math.max(...logits);
  const shares = Array.from(logits, (value) => Math.exp(value - largest));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((value) => value / sum);
}

/** The classes by probability, the most probable one first. */
export function ranked(shares) {
  return [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
}

export class Comparison {
  /**
   * @param section the element of the page.
   * @param nameOf the name of a class by its number.
   * @param choose the numbers of the classes to show, of both probabilities.
   */
  constructor(section, nameOf, choose) {
    this.nameOf = nameOf;
    this.choose = choose;
    this.element = section.querySelector('.results');
    const template = document.getElementById('results');
    this.element.append(template.content.cloneNode(true));
    this.summary = this.element.querySelector('.summary');
    this.classes = this.element.querySelector('.classes');
  }

  /** Shows what is known of the files. */
  describe(networks, bytes) {
    this.bytes = bytes;
    const known = networks.filter(({accuracy}) => accuracy !== undefined);
    this.row('accuracy').hidden = known.length < networks.length;
    this.fill('zeros', networks.map(({sparsity}) => asPercent(sparsity)));
    this.fill('accuracy', known.map(({accuracy}) => asPercent(accuracy)));
    this.fill('bytes', bytes.map(asSize));
  }

  busy() {
    this.element.setAttribute('aria-busy', 'true');
  }

  /** Shows the results of a call. */
  show({logits, milliseconds}) {
    const shares = logits.map(softmax);
    this.fill('time', milliseconds.map(asTime));
    this.fill('answer', shares.map((share) => {
      const [best] = ranked(share);
      return `${this.nameOf(best)} (${asPercent(share[best])})`;
    }));
    const [dense, sparse] = milliseconds;
    this.summary.textContent =
        `The sparse file is ${times(this.bytes[0] / this.bytes[1])} smaller, ` +
        `a call ${speed(dense / sparse)}.`;
    this.classes.replaceChildren(...this.choose(shares).map(
        (number) => this.bars(number, shares.map((share) => share[number]))));
    this.element.setAttribute('aria-busy', 'false');
  }

  /** Shows that there is no input. */
  clear(text) {
    for (const name of ['time', 'answer']) this.fill(name, ['–', '–']);
    this.summary.textContent = text;
    this.classes.replaceChildren();
    this.element.setAttribute('aria-busy', 'false');
  }

  bars(number, shares) {
    const row = document.createElement('div');
    row.className = 'class';
    row.setAttribute('role', 'listitem');
    const text = shares.map((share, i) => `${KINDS[i]} ${asPercent(share)}`);
    row.setAttribute('aria-label', `${this.nameOf(number)}: ${text.join(', ')}`);
    const name = document.createElement('span');
    name.textContent = this.nameOf(number);
    const bars = document.createElement('div');
    bars.className = 'bars';
    for (const [place, share] of shares.entries()) {
      const bar = document.createElement('div');
      bar.className = `bar ${KINDS[place]}`;
      bar.title = text[place];
      const filled = document.createElement('span');
      filled.style.width = `${100 * share}%`;
      bar.append(filled);
      bars.append(bar);
    }
    row.append(name, bars);
    return row;
  }

  row(name) {
    return this.element.querySelector(`tr.${name}`);
  }

  fill(name, texts) {
    const cells = this.row(name).querySelectorAll('td');
    texts.forEach((text, place) => cells[place].textContent = text);
  }
}

function times(ratio) {
  return `${ratio.toFixed(ratio < 10 ? 1 : 0)} times`;
}

function speed(ratio) {
  if (ratio >= 1.05) return `${times(ratio)} faster`;
  if (ratio <= 0.95) return `${times(1 / ratio)} slower`;
  return 'as fast';
}
