/** The server's HTTP contract as calls: a key and a request go in, what the server answered or a Problem comes out. */

import { parsed, written } from './json.js';

/** What a whole answer may be asked as: the media type, and how a file of it is called. */
export const FORMATS = {
  csv: { accept: 'text/csv', extension: 'csv' },
  parquet: { accept: 'application/vnd.apache.parquet', extension: 'parquet' },
  arrow: { accept: 'application/vnd.apache.arrow.stream', extension: 'arrows' },
  ndjson: { accept: 'application/x-ndjson', extension: 'ndjson' },
};

const SILENT_MS = 60_000; // the server sends a heartbeat far more often: a stream this still is a dead connection
const LONGEST_PAUSE_MS = 30_000;

/**
 * @typedef {number | bigint} Whole
 * @typedef {{rows: Whole, seed: Whole | null, offset: Whole, where: object | null, columns: string[] | null}} Request
 * @typedef {{id: string, model: string, seed: Whole, where: object | null, rows: number, status: string, parts: number,
 *   parts_done: number, rows_done: number, created: string, detail: string, url?: string}} Job
 */

/** The server refused, or could not be reached (`status` 0). */
export class Problem extends Error {
  /** @param {{status: number, title: string, detail?: string, requestId?: string | null, retryAfter?: string | null}} facts */
  constructor({ status, title, detail = '', requestId = null, retryAfter = null }) {
    super(detail || title);
    Object.assign(this, { status, title, detail, requestId, retryAfter });
  }

  /** Asking again later may help. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** Where a path of the contract is, wherever the page itself is. @param {string} path */
export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** @param {string} model */
export function samplePath(model) {
  return `v1/models/${encodeURIComponent(model)}/sample`;
}

export class Api {
  #key;

  /** @param {string} key */
  constructor(key) {
    this.#key = key;
  }

  /** @param {AbortSignal} [signal] */
  async models(signal) {
    return (await this.#json('v1/models', { signal })).models;
  }

  /** @param {string} model @param {AbortSignal} [signal] */
  card(model, signal) {
    return this.#json(`v1/models/${encodeURIComponent(model)}`, { signal });
  }

  /**
   * The rows as JSON, and the seed they were drawn with.
   * @param {string} model @param {Request} request @param {AbortSignal} [signal]
   */
  async preview(model, request, signal) {
    const answer = await this.#ask(samplePath(model), { body: request, signal });
    return { ...(await read(answer)), seed: whichSeed(answer) };
  }

  /**
   * The rows as a file, how many there are, and their seed.
   * @param {string} model @param {Request} request @param {keyof FORMATS} format @param {AbortSignal} [signal]
   */
  async file(model, request, format, signal) {
    const answer = await this.#ask(samplePath(model), { body: request, signal, headers: { Accept: FORMATS[format].accept } });
    const rows = answer.headers.get('X-Raysynth-Rows');
    return { blob: await whenWhole(answer.blob()), rows, seed: whichSeed(answer) };
  }

  /** @param {AbortSignal} [signal] @returns {Promise<Job[]>} newest first */
  async jobs(signal) {
    return (await this.#json('v1/jobs', { signal })).jobs;
  }

  /** @param {object} body @param {string} idempotencyKey the same key and body start one job, however often they are sent */
  startJob(body, idempotencyKey) {
    return this.#json('v1/jobs', { body, headers: { 'Idempotency-Key': idempotencyKey } });
  }

  /** @param {string} job @returns {Promise<Job>} */
  cancelJob(job) {
    return this.#json(`${jobPath(job)}/cancel`, { method: 'POST' });
  }

  /** @param {string} job */
  async manifest(job) {
    return (await this.#json(`${jobPath(job)}/manifest`)).files;
  }

  /** The job whenever it changed, until its end; lost connections are made anew. @param {string} job @param {AbortSignal} signal */
  async *watch(job, signal) {
    for (let failures = 0; ; failures += 1) {
      try {
        for await (const { event, data } of this.#events(`${jobPath(job)}/events`, signal)) {
          failures = 0;
          if (data) yield parsed(data);
          if (event === 'end') return;
        }
      } catch (error) {
        if (signal.aborted || (error instanceof Problem && !error.passing)) throw error;
      }
      await pause(Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures) * (0.5 + Math.random()), signal);
    }
  }

  /** EventSource cannot send the key, so the stream is read by hand. */
  async *#events(path, signal) {
    const connection = new AbortController();
    const stop = () => connection.abort();
    signal.addEventListener('abort', stop);
    let silence = setTimeout(stop, SILENT_MS);
    try {
      const answer = await this.#ask(path, { signal: connection.signal, headers: { Accept: 'text/event-stream' } });
      for await (const message of messages(answer.body)) {
        clearTimeout(silence);
        silence = setTimeout(stop, SILENT_MS);
        yield message;
      }
    } finally {
      clearTimeout(silence);
      signal.removeEventListener('abort', stop);
      stop();
    }
  }

  async #json(path, options) {
    return read(await this.#ask(path, options));
  }

  async #ask(path, { body, headers = {}, signal, method = body ? 'POST' : 'GET' } = {}) {
    const answer = await whenWhole(
      fetch(address(path), {
        method,
        signal,
        headers: { Authorization: `Bearer ${this.#key}`, ...(body && { 'Content-Type': 'application/json' }), ...headers },
        body: body && written(body),
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
      }),
    );
    if (!answer.ok) throw await problemOf(answer);
    return answer;
  }
}

/**
 * The body of an event stream → {event, data} of each message, both empty for a heartbeat.
 * @param {ReadableStream<Uint8Array>} body
 */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + value).split(/\r?\n\r?\n/);
      text = blocks.pop() ?? '';
      yield* blocks.map(message);
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already
  }
}

function message(block) {
  const found = { event: '', data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^(event|data): ?(.*)$/.exec(line) ?? [];
    if (field === 'event') found.event = value;
    if (field === 'data') found.data.push(value);
  }
  return { event: found.event, data: found.data.join('\n') };
}

function jobPath(job) {
  return `v1/jobs/${encodeURIComponent(job)}`;
}

function whichSeed(answer) {
  return answer.headers.get('X-Raysynth-Seed') ?? '';
}

async function read(answer) {
  const text = await whenWhole(answer.text());
  try {
    return parsed(text);
  } catch {
    throw new Problem({ status: answer.status, title: 'The answer broke off', detail: 'Ask again, or for fewer rows.' });
  }
}

/** fetch says TypeError for whatever goes wrong on the way. */
async function whenWhole(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof TypeError)
      throw new Problem({ status: 0, title: 'No answer', detail: 'The server cannot be reached, or the connection broke off.' });
    throw error;
  }
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({})); // a proxy in between answers in its own words
  return new Problem({
    status: answer.status,
    title: String(told.title ?? `The server answers ${answer.status}`),
    detail: String(told.detail ?? ''),
    requestId: told.request_id ?? answer.headers.get('X-Request-Id'),
    retryAfter: answer.headers.get('Retry-After'),
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve(undefined);
    }, milliseconds);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
  });
}
