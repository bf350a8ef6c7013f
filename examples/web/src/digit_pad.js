// SPDX-License-Identifier: Apache-2.0
/** A field to draw a digit on, with a pointer or the keyboard. */

export const SIDE = 28;  // Pixels of MNIST's images.
const BOX = 20;          // Their digits lie in a box of this size.
const PEN = 0.085;       // Width of the pen, as a share of the field.
const STEP = 1 / 28;     // What an arrow key moves the pen.
const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

export class DigitPad {
  /**
   * @param canvas what is drawn on.
   * @param pen the element that shows where the keyboard's pen is.
   * @param onChange called when a stroke has ended and when all is cleared.
   * @param onPen called with whether the keyboard's pen is down.
   */
  constructor(canvas, pen, onChange, onPen) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d', {willReadFrequently: true});
    this.pen = pen;
    this.onChange = onChange;
    this.onPen = onPen;
    this.place = [0.5, 0.3];
    this.isDown = false;
    this.stroke = null;
    canvas.addEventListener('pointerdown', (event) => this.start(event));
    canvas.addEventListener('pointermove', (event) => this.move(event));
    for (const kind of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(kind, () => this.end());
    }
    canvas.addEventListener('keydown', (event) => this.key(event));
    canvas.addEventListener('blur', () => this.lift());
    this.showPen();
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.onChange();
  }

  /** Shows an image of MNIST, 28 x 28 bytes. */
  show(pixels) {
    const small = new OffscreenCanvas(SIDE, SIDE);
    const image = new ImageData(SIDE, SIDE);
    pixels.forEach((value, i) => image.data.set([255, 255, 255, value], 4 * i));
    small.getContext('2d').putImageData(image, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.imageSmoothingEnabled = true;
    this.context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }

  /**
   * What is drawn, as MNIST's images are: the digit scaled to 20 x 20 pixels,
   * its centre of mass in the middle of 28 x 28. Null if nothing is drawn.
   */
  pixels() {
    const {width, height} = this.canvas;
    const {data} = this.context.getImageData(0, 0, width, height);
    const box = bounds(data, width, height);
    if (!box) return null;
    const [left, top, right, bottom] = box;
    const scale = BOX / Math.max(right - left, bottom - top);
    const size = [(right - left) * scale, (bottom - top) * scale];
    const draw = (x, y) => {
      const small = new OffscreenCanvas(SIDE, SIDE).getContext('2d');
      small.imageSmoothingQuality = 'high';
      small.drawImage(
          this.canvas, left, top, right - left, bottom - top, x, y, ...size);
      const image = small.getImageData(0, 0, SIDE, SIDE).data;
      return Uint8Array.from({length: SIDE ** 2}, (_, i) => image[4 * i + 3]);
    };
    const start = size.map((length) => (SIDE - length) / 2);
    const centre = centreOfMass(draw(...start));
    return draw(...start.map(
        (value, axis) => value + Math.round(SIDE / 2 - centre[axis])));
  }

  start(event) {
    event.preventDefault();
    this.canvas.focus({preventScroll: true});
    this.canvas.setPointerCapture(event.pointerId);
    this.lift();
    this.stroke = this.at(event);
    this.line(this.stroke, this.stroke);
  }

  move(event) {
    if (!this.stroke) return;
    const place = this.at(event);
    this.line(this.stroke, place);
    this.stroke = place;
  }

  end() {
    if (!this.stroke) return;
    this.place = this.stroke;
    this.stroke = null;
    this.showPen();
    this.onChange();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const size = event.shiftKey ? STEP / 3 : STEP;
      const place = this.place.map(
          (value, axis) => Math.min(Math.max(value + arrow[axis] * size, 0), 1));
      if (this.isDown) this.line(this.place, place);
      this.place = place;
    } else if (event.key === ' ') {
      if (this.isDown) {
        this.lift();
      } else {
        this.isDown = true;
        this.line(this.place, this.place);
        this.onPen(true);
      }
    } else if (event.key === 'Delete' || event.key === 'Backspace') {
      this.isDown = false;
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    this.showPen();
  }

  /** Ends the stroke of the keyboard's pen. */
  lift() {
    if (!this.isDown) return;
    this.isDown = false;
    this.showPen();
    this.onPen(false);
    this.onChange();
  }

  showPen() {
    this.pen.style.left = `${100 * this.place[0]}%`;
    this.pen.style.top = `${100 * this.place[1]}%`;
    this.pen.classList.toggle('down', this.isDown);
  }

  at(event) {
    const {left, top, width, height} = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  line(from, to) {
    const {width, height} = this.canvas;
    this.context.lineCap = this.context.lineJoin = 'round';
    this.context.lineWidth = PEN * width;
    this.context.strokeStyle = '#fff';
    this.context.beginPath();
    this.context.moveTo(from[0] * width, from[1] * height);
    this.context.lineTo(to[0] * width, to[1] * height);
    this.context.stroke();
  }
}

/** Left, top, right and bottom of what is not transparent; null for nothing. */
function bounds(data, width, height) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; ++y) {
    for (let x = 0; x < width; ++x) {
      if (data[4 * (y * width + x) + 3] < 32) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return right > left ? [left, top, right, bottom] : null;
}

function centreOfMass(pixels) {
  let [sum, x, y] = [0, 0, 0];
  pixels.forEach((value, i) => {
    sum += value;
    x += value * (i % SIDE + 0.5);
    y += value * (Math.floor(i / SIDE) + 0.5);
  });
  return sum ? [x / sum, y / sum] : [SIDE / 2, SIDE / 2];
}
