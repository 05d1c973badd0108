/** The server's jobs → a list that starts, watches and cancels them, and names the files of those that are done. */

import { box, element, table } from './elements.js';
import { written } from './json.js';
import { count, counted, duration, size } from './words.js';

/** @typedef {import('./api.js').Api} Api @typedef {import('./api.js').Job} Job */

const MOST_FILES = 200;
const LABELS = { watch: 'Watch', cancel: 'Cancel', files: 'Show the files' };

/** The jobs of one key. `attempt` runs a task and shows what goes wrong; `announce` says a sentence to whoever cannot see the list. */
export class Jobs {
  /** @type {Map<string, JobItem>} */
  #items = new Map();
  /** @type {{body: string, key: string} | null} */
  #unanswered = null;
  #watching = new AbortController();
  #isClosed = false;

  /**
   * @param {{api: Api, list: HTMLElement, none: HTMLElement, attempt: (task: () => Promise<void>) => Promise<void>,
   *   announce: (text: string) => void}} page
   */
  constructor(page) {
    Object.assign(this, page);
  }

  /** The list anew; the newest job that runs is watched. */
  async load(signal) {
    const jobs = await this.api.jobs(signal);
    if (this.#isClosed) return;
    this.#items.clear();
    this.list.replaceChildren();
    for (const job of jobs) this.list.append(this.#item(job).node);
    this.none.hidden = jobs.length > 0;
    const running = jobs.find((job) => job.status === 'running');
    if (running) this.#watch(running.id);
    else this.#watching.abort();
  }

  /** A start that was never answered is sent again under its own key, so that no second job begins. @param {object} body */
  async start(body) {
    const text = written(body);
    if (this.#unanswered?.body !== text) this.#unanswered = { body: text, key: freshKey() };
    const job = await this.api.startJob(body, this.#unanswered.key);
    this.#unanswered = null;
    if (this.#isClosed) return;
    if (!this.#items.has(job.id)) this.list.prepend(this.#item(job).node);
    this.none.hidden = true;
    this.announce(`The job of ${counted(job.rows, 'row')} has started.`);
    this.#watch(job.id);
  }

  /** The key is forgotten: nothing is watched or listed any longer. */
  close() {
    this.#isClosed = true;
    this.#watching.abort();
  }

  #item(job) {
    const item = new JobItem(job, {
      watch: () => this.#watch(job.id),
      cancel: () => this.attempt(() => this.#cancel(job.id)),
      files: () => this.attempt(async () => item.showFiles(await this.api.manifest(job.id))),
    });
    this.#items.set(job.id, item);
    return item;
  }

  async #cancel(id) {
    const item = this.#items.get(id);
    item.show(await this.api.cancelJob(id));
    this.announce('The job is cancelled.');
  }

  /** One job at a time: a browser holds only a few connections to a server. */
  #watch(id) {
    this.#watching.abort();
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    for (const [other, item] of this.#items) item.watched = other === id;
    const watched = this.#items.get(id);
    return this.attempt(async () => {
      try {
        for await (const job of this.api.watch(id, signal)) this.#seen(watched, job);
      } finally {
        if (!signal.aborted) watched.watched = false;
      }
    });
  }

  #seen(item, job) {
    if (item.status !== job.status) this.announce(`The job is ${job.status}.`);
    item.show(job);
  }
}

/** One job's place in the list, kept while its numbers change, so that the focus stays. */
class JobItem {
  #first = null;

  /** @param {Job} job @param {{watch: () => void, cancel: () => void, files: () => void}} actions */
  constructor(job, actions) {
    this.state = element('span', { class: 'state', 'data-job-status': job.id });
    this.bar = element('progress', { max: 1, 'aria-label': 'Rows made' });
    this.facts = element('p', { class: 'facts' });
    this.detail = element('p', {});
    this.files = element('div', {});
    this.buttons = Object.fromEntries(
      Object.entries(LABELS).map(([name, label]) => [
        name,
        element('button', { type: 'button', 'data-action': name, onclick: actions[name] }, label),
      ]),
    );
    this.node = element(
      'li',
      { 'data-job': job.id, tabindex: -1 },
      element('h3', {}, `${job.model}: ${counted(job.rows, 'row')} `, this.state),
      this.bar,
      this.facts,
      this.detail,
      element('div', { class: 'row' }, ...Object.values(this.buttons)),
      this.files,
    );
    this.isWatched = false;
    this.show(job);
  }

  get status() {
    return this.job.status;
  }

  set watched(isWatched) {
    this.isWatched = isWatched;
    this.show(this.job);
  }

  /** @param {Job} job */
  show(job) {
    this.job = job;
    const running = job.status === 'running';
    this.state.textContent = job.status;
    this.state.className = `state ${job.status}`;
    this.bar.value = job.rows ? job.rows_done / job.rows : 1;
    this.facts.textContent = factsOf(job, running && this.isWatched ? this.#secondsLeft(job) : null);
    this.detail.textContent = job.status === 'completed' ? (job.url ?? '') : job.detail;
    this.#offer({ watch: running && !this.isWatched, cancel: running, files: job.status === 'completed' });
  }

  /** @param {{name: string, rows: number, bytes: number, sha256: string, url: string}[]} files */
  showFiles(files) {
    const rows = files
      .slice(0, MOST_FILES)
      .map((file) => [
        element('code', {}, file.name),
        count(file.rows),
        size(file.bytes),
        element('code', { class: 'whole', title: file.sha256 }, file.sha256.slice(0, 12)),
        element('code', {}, file.url),
      ]);
    const sum = (key) => files.reduce((total, file) => total + file[key], 0);
    const told = `${counted(files.length, 'file')}, ${counted(sum('rows'), 'row')}, ${size(sum('bytes'))}`;
    const left = files.length > MOST_FILES ? `. The first ${MOST_FILES} are shown` : '';
    this.files.replaceChildren(
      element('p', { class: 'facts' }, `${told}${left}.`),
      box('Files', table(['File', 'Rows', 'Size', 'SHA-256', 'URL'], rows, { class: 'files' })),
    );
    this.#offer({ watch: false, cancel: false, files: false });
  }

  /** From the rows made since this page began to look; null before any were. */
  #secondsLeft(job) {
    const seen = { rows: job.rows_done, at: performance.now() };
    this.#first ??= seen;
    const perSecond = (1000 * (seen.rows - this.#first.rows)) / (seen.at - this.#first.at);
    return perSecond > 0 ? (job.rows - job.rows_done) / perSecond : null;
  }

  #offer(wanted) {
    for (const [name, button] of Object.entries(this.buttons)) {
      const hadFocus = button === document.activeElement;
      button.hidden = !wanted[name];
      if (button.hidden && hadFocus) this.node.focus();
    }
  }
}

function factsOf(job, secondsLeft) {
  return [
    `${count(job.rows_done)} of ${counted(job.rows, 'row')}`,
    `${count(job.parts_done)} of ${counted(job.parts, 'part')}`,
    `seed ${job.seed}`,
    job.where && Object.keys(job.where).length && `where ${written(job.where)}`,
    job.created && `begun ${new Date(job.created).toLocaleString()}`,
    secondsLeft !== null && `about ${duration(secondsLeft)} left`,
  ]
    .filter(Boolean)
    .join(' · ');
}

/** randomUUID exists only where the page came by https or from this machine. */
function freshKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
