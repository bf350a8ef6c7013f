// SPDX-License-Identifier: Apache-2.0
/**
 * Bundles the page into a folder that any static server can serve.
 *
 *   node build.mjs [--models=models] [--output=dist]
 */
import {build} from 'esbuild';
import {cpSync, existsSync, mkdirSync, readdirSync, rmSync} from 'node:fs';
import path from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';

const here = path.dirname(fileURLToPath(import.meta.url));
const {values} = parseArgs({
  options: {
    models: {type: 'string', default: path.join(here, 'models')},
    output: {type: 'string', default: path.join(here, 'dist')},
  },
});
const output = path.resolve(values.output);
if (!existsSync(path.join(values.models, 'models.json'))) {
  console.error(
      `${values.models} has no models.json: run make_models.py first.`);
  process.exit(1);
}

// Nothing of an older build stays, and nothing else is removed.
const runtime = path.join(output, 'litert');
const parts = ['models', 'litert', 'app.js', 'index.html', 'style.css'];
const other = existsSync(output) ?
    readdirSync(output).filter((name) => !parts.includes(name)) :
    [];
if (other.length) {
  console.error(
      `--output=${values.output} must be a new folder or an older build; ` +
      `it has ${other[0]}.`);
  process.exit(1);
}
for (const part of parts) {
  rmSync(path.join(output, part), {recursive: true, force: true});
}
mkdirSync(runtime, {recursive: true});

const common = {bundle: true, minify: true, target: 'es2022', logLevel: 'error'};
await build({
  ...common,
  entryPoints: [path.join(here, 'src', 'app.js')],
  outfile: path.join(output, 'app.js'),
  format: 'esm',
});
// A script, not a module: LiteRT.js loads its program with `importScripts`. It
// lies beside that program, which looks for its .wasm file next to the worker.
await build({
  ...common,
  entryPoints: [path.join(here, 'src', 'worker.js')],
  outfile: path.join(runtime, 'worker.js'),
  format: 'iife',
});

const wasm = path.join(here, 'node_modules', '@litertjs', 'core', 'wasm');
// The program for today's browsers, and the one without relaxed SIMD.
for (const kind of ['', '_compat']) {
  for (const ending of ['js', 'wasm']) {
    const name = `litert_wasm${kind}_internal.${ending}`;
    cpSync(path.join(wasm, name), path.join(runtime, name));
  }
}
for (const name of ['index.html', 'style.css']) {
  cpSync(path.join(here, 'src', name), path.join(output, name));
}
cpSync(values.models, path.join(output, 'models'), {recursive: true});
console.log(`Built ${output}.`);
