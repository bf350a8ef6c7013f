// SPDX-License-Identifier: Apache-2.0
/** A dense and a sparse network, which the worker computes. */

const worker = new Worker(new URL('litert/worker.js', document.baseURI));
const waiting = new Map();

worker.onmessage = ({data: {id, ...answer}}) => waiting.get(id)?.(answer);
worker.onerror = (event) => {
  const text = event.message || 'The worker cannot be loaded.';
  waiting.forEach((resolve) => resolve({error: text}));
};

export class Pair {
  /** @param id a name of its own. */
  constructor(id) {
    this.id = id;
    this.busy = false;
    this.next = null;
  }

  /** Loads both files; returns their sizes in bytes. */
  async load(urls) {
    return (await this.ask({kind: 'load', urls})).bytes;
  }

  /**
   * Calls both networks with the same pixels, in turns.
   *
   * While they compute, of several further requests only the latest is kept;
   * those that it replaces return null.
   *
   * @param pixels what both take, Uint8Array.
   * @param rounds how often each is timed.
   * @return {logits, milliseconds}, of the dense and the sparse network.
   */
  async compare(pixels, rounds) {
    if (this.busy) {
      this.next?.(false);
      if (!await new Promise((resolve) => this.next = resolve)) return null;
    }
    this.busy = true;
    try {
      return await this.ask({kind: 'compare', pixels, rounds});
    } finally {
      this.busy = false;
      const next = this.next;
      this.next = null;
      next?.(true);
    }
  }

  async ask(request) {
    const answer = await new Promise((resolve) => {
      waiting.set(this.id, resolve);
      worker.postMessage({...request, id: this.id});
    });
    waiting.delete(this.id);
    if (answer.error) throw new Error(answer.error);
    return answer;
  }
}
