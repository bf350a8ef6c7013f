// SPDX-License-Identifier: Apache-2.0
/**
 * Computes pairs of networks off the page's thread, so that it stays responsive.
 *
 * Requests: {kind: 'load', id, urls: [URL, URL]}
 *           {kind: 'compare', id, pixels: Uint8Array, rounds}
 * Answers:  {id, bytes: [N, N]}
 *           {id, logits: [Float32Array, ...], milliseconds: [T, T]}
 *           {id, error: TEXT}
 */
import {Tensor, loadAndCompile, loadLiteRt} from '@litertjs/core';

// Clocks of browsers are coarse: short calls are timed several at once.
const SHORTEST = 4;  // Milliseconds.
// Browsers compile WebAssembly again, to faster code, while it runs.
const WARM_UP = 150;  // Milliseconds.

const ready = loadLiteRt(new URL('.', self.location.href).href);
const pairs = new Map();
const warm = new Set();

async function load({id, urls}) {
  await ready;
  const networks = [];
  const bytes = [];
  for (const url of urls) {
    const response = await fetch(url);
    if (!response.ok) {
      throw new Error(`${url}: ${response.status} ${response.statusText}`);
    }
    const content = new Uint8Array(await response.arrayBuffer());
    bytes.push(content.length);
    networks.push(await loadAndCompile(content, {accelerator: 'wasm'}));
  }
  pairs.set(id, networks);
  return {bytes};
}

/** Calls a network once; returns its logits. */
async function call(network, tensor) {
  const [result] = await network.run([tensor]);
  const logits = result.toTypedArray();
  result.delete();
  return logits;
}

/** The mean milliseconds of some calls, one after the other. */
async function time(network, tensor, calls) {
  const start = performance.now();
  for (let number = 0; number < calls; ++number) {
    const results = await network.run([tensor]);
    results.forEach((result) => result.delete());
  }
  return (performance.now() - start) / calls;
}

/** Calls a network until its code is fast; returns the time of a call. */
async function warmUp(network, tensor) {
  let mean = await time(network, tensor, 1);
  if (!warm.has(network)) {
    const end = performance.now() + WARM_UP;
    while (performance.now() < end) mean = await time(network, tensor, 5);
    warm.add(network);
  }
  return mean;
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

async function compare({id, pixels, rounds}) {
  const networks = pairs.get(id);
  const inputs = networks.map((network) => {
    const [{shape}] = network.getInputDetails();
    return new Tensor(pixels, [...shape]);
  });
  try {
    const logits = [];
    const calls = [];
    for (const [place, network] of networks.entries()) {
      logits.push(await call(network, inputs[place]));
      const mean = await warmUp(network, inputs[place]);
      calls.push(Math.ceil(SHORTEST / Math.max(mean, SHORTEST / 200)));
    }
    const times = networks.map(() => []);
    for (let round = 0; round < rounds; ++round) {
      for (const [place, network] of networks.entries()) {
        times[place].push(await time(network, inputs[place], calls[place]));
      }
    }
    return {logits, milliseconds: times.map(median)};
  } finally {
    inputs.forEach((tensor) => tensor.delete());
  }
}

const ACTIONS = {load, compare};
// One at a time: networks that compute at once would be timed wrongly.
let last = Promise.resolve();
self.onmessage = ({data}) => {
  last = last.then(async () => {
    try {
      self.postMessage({id: data.id, ...await ACTIONS[data.kind](data)});
    } catch (error) {
      self.postMessage({id: data.id, error: String(error?.message ?? error)});
    }
  });
};
