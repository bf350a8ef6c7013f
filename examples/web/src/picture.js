// SPDX-License-Identifier: Apache-2.0
/** Pictures as networks take them: square, RGB. */

/** Draws the middle of a picture so that it fills a canvas. */
export function fit(canvas, picture) {
  const size = Math.min(picture.width, picture.height);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingQuality = 'high';
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(
      picture, (picture.width - size) / 2, (picture.height - size) / 2, size,
      size, 0, 0, canvas.width, canvas.height);
}

/** A landscape, for those who have no picture at hand. */
export function landscape(canvas) {
  const {width: w, height: h} = canvas;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const sky = context.createLinearGradient(0, 0, 0, 0.7 * h);
  sky.addColorStop(0, '#3f7fc4');
  sky.addColorStop(1, '#f6d9a8');
  context.fillStyle = sky;
  context.fillRect(0, 0, w, h);
  context.fillStyle = '#fff4d2';
  context.beginPath();
  context.arc(0.72 * w, 0.3 * h, 0.09 * w, 0, 2 * Math.PI);
  context.fill();
  const hills = [
    ['#7793a8', 0.52, 0.1, 5], ['#4f7a63', 0.64, 0.07, 7],
    ['#2f5a3d', 0.78, 0.05, 4],
  ];
  for (const [colour, level, size, waves] of hills) {
    context.fillStyle = colour;
    context.beginPath();
    context.moveTo(0, h);
    for (let x = 0; x <= w; ++x) {
      const wave = Math.sin(waves * x / w + 9 * level);
      context.lineTo(x, h * (level + size * wave));
    }
    context.lineTo(w, h);
    context.fill();
  }
}

/** The colours of a canvas, three bytes a pixel, scaled to a square. */
export function colours(canvas, side) {
  const small = new OffscreenCanvas(side, side).getContext('2d');
  small.imageSmoothingQuality = 'high';
  small.fillStyle = '#fff';  // Behind what is transparent.
  small.fillRect(0, 0, side, side);
  small.drawImage(canvas, 0, 0, side, side);
  const {data} = small.getImageData(0, 0, side, side);
  return Uint8Array.from(
      {length: 3 * side ** 2}, (_, i) => data[4 * Math.floor(i / 3) + i % 3]);
}
