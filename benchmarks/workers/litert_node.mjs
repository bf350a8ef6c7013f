// SPDX-License-Identifier: Apache-2.0
/**
 * Computes LiteRT files in WebAssembly under Node, for litert_node.py.
 *
 *   node litert_node.mjs NODE_MODULES
 *
 * NODE_MODULES holds `@litertjs/core`. Requests and answers are lines of JSON:
 *
 *   {"load": FILE, "inputs": {NAME: ARRAY}}  -> {"number": N}
 *   {"run": N}                               -> {"milliseconds": T}
 *   {"results": N}                           -> {"results": {NAME: ARRAY}}
 *
 * An ARRAY is {"dtype", "shape", "data"}, its bytes in base64. A request that
 * fails is answered by {"error": TEXT}.
 */
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';
import readline from 'node:readline';
import {pathToFileURL} from 'node:url';
import vm from 'node:vm';

// What the runtime reports must not come between the answers.
for (const kind of ['log', 'info', 'debug', 'warn']) {
  console[kind] = (...text) => console.error(...text);
}

// LiteRT.js knows pages and workers. Its program for Node is the same one, a
// script that has to be run as a worker would do it.
globalThis.self = globalThis;
globalThis.importScripts = (file) => {
  const names = ['exports', 'require', 'module', '__filename', '__dirname'];
  const script = vm.compileFunction(readFileSync(file, 'utf8'), names, {
    filename: file,
  });
  const module = {exports: {}};
  script(
      module.exports, createRequire(pathToFileURL(file)), module, file,
      path.dirname(file));
  globalThis.ModuleFactory = module.exports;
};

const TYPES = {
  float32: Float32Array,
  int32: Int32Array,
  uint8: Uint8Array,
};

const folder = path.resolve(process.argv[2], '@litertjs', 'core');
const {Tensor, loadAndCompile, loadLiteRt} =
    await import(pathToFileURL(path.join(folder, 'dist', 'index.js')));
await loadLiteRt(path.join(folder, 'wasm'));

/** A tensor of an array as it is sent. */
function decode({dtype, shape, data}) {
  const bytes = new Uint8Array(Buffer.from(data, 'base64'));
  return new Tensor(new TYPES[dtype](bytes.buffer), shape);
}

/** A tensor as it is sent. */
function encode(tensor) {
  const values = tensor.toTypedArray();
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const {dtype, layout} = tensor.type;
  const shape = [...layout.dimensions];
  return {dtype, shape, data: bytes.toString('base64')};
}

const loaded = [];

async function answer(request) {
  if ('load' in request) {
    const model = await loadAndCompile(
        new Uint8Array(readFileSync(request.load)), {accelerator: 'wasm'});
    const inputs = Object.fromEntries(
        Object.entries(request.inputs)
            .map(([name, array]) => [name, decode(array)]));
    loaded.push({model, inputs});
    return {number: loaded.length - 1};
  }
  const {model, inputs} = loaded[request.run ?? request.results];
  const start = performance.now();
  const results = await model.run(inputs);
  const milliseconds = performance.now() - start;
  const named = Object.entries(results);
  const arrays = 'results' in request ?
      Object.fromEntries(named.map(([name, value]) => [name, encode(value)])) :
      null;
  named.forEach(([, tensor]) => tensor.delete());
  return arrays ? {results: arrays} : {milliseconds};
}

for await (const line of readline.createInterface({input: process.stdin})) {
  let reply;
  try {
    reply = await answer(JSON.parse(line));
  } catch (error) {
    reply = {error: String(error?.message ?? error)};
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
