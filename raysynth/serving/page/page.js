/**
 * The server's page: a key and what is set in the forms go in; a model's card, synthetic rows, plots, files and jobs come out.
 *
 * The parts: api.js (HTTP) · card.js (a model's card) · conditions.js (controls → `where`) · rows.js and plots.js (a preview) ·
 * calls.js (curl and Python) · jobs.js (jobs) · elements.js, words.js, json.js (what they are built of).
 *
 * What tests may hold on to:
 *   key         #key-form #key #key-enter #forget · everything else lies in #work
 *   model       #model #card #verdict · #about-model is there once a card is
 *   sample      #sample-form #rows #seed #offset #sample #stop · #columns #columns-all #columns-none [data-column]
 *   conditions  #conditions #clear-conditions #own #unconditioned
 *               [data-condition=COLUMN] and in it [data-value] [data-missing] [data-other] [data-min] [data-max] [data-starts]
 *   results     #result #sample-facts #table #plots [data-plot=COLUMN]
 *   downloads   #download-csv #download-parquet #download-arrow #download-ndjson
 *   calls       #curl #copy-curl #python #copy-python
 *   jobs        #job-form #job-rows #job-seed #job-start #job-where #jobs-refresh #jobs [data-job=ID] and in it [data-job-status]
 *               [data-action=watch|cancel|files]
 *   told        #status (what went well) · #problem #problem-title #problem-detail #problem-close (what did not)
 */

import { Api, FORMATS, Problem } from './api.js';
import { curlCall, pythonCall } from './calls.js';
import { cardOf } from './card.js';
import { Conditions } from './conditions.js';
import { byId, element, tick } from './elements.js';
import { Jobs } from './jobs.js';
import { whole, written } from './json.js';
import { figures, rowsTable } from './rows.js';
import { count, counted, size } from './words.js';

const KEY = 'raysynth-key'; // in sessionStorage, which is this tab's alone
const MOST_PREVIEWED = 5000;
const MOST_PICTURED = 100; // of a model with images, each many times as large as other cells
const ANNOUNCED_MS = 10_000;
const FAR_FROM_KEPT_MS = 60_000; // by then a browser has taken a download over

/** What the page shows now. `drawnSeed`: the seed of the last preview, which an empty seed field stands for. */
const now = {
  /** @type {Api | null} */ api: null,
  /** @type {any} */ card: null,
  /** @type {Conditions | null} */ conditions: null,
  /** @type {Jobs | null} */ jobs: null,
  drawnSeed: '',
  announced: 0, // the timer that ends it
};

/** Each kind of request has one that runs; the next one aborts it. @type {Record<string, AbortController>} */
const running = { model: new AbortController(), rows: new AbortController(), jobs: new AbortController() };

listen();
enter(sessionStorage.getItem(KEY));

function listen() {
  on('key-form', 'submit', () => enter(byId('key').value.trim()));
  on('forget', 'click', () => forget());
  on('model', 'change', () => attempt(showModel));
  on('sample-form', 'submit', () => whileBusy(preview));
  on('sample-form', 'input', showCalls);
  for (const format of Object.keys(FORMATS))
    on(`download-${format}`, 'click', () => whileBusy((signal) => download(format, signal)));
  on('stop', 'click', () => running.rows.abort());
  on('clear-conditions', 'click', makeConditions);
  on('columns-all', 'click', () => tickColumns(true));
  on('columns-none', 'click', () => tickColumns(false));
  for (const call of ['curl', 'python']) on(`copy-${call}`, 'click', () => copy(byId(call)));
  on('job-form', 'submit', () => attempt(startJob));
  on('jobs-refresh', 'click', () => attempt(showJobs));
  on('problem-close', 'click', hideProblem);
  byId('main').addEventListener('click', ({ target }) => target.closest('button') && hideProblem(), true);
}

function on(id, event, listener) {
  byId(id).addEventListener(event, (happened) => {
    if (event === 'submit') happened.preventDefault();
    listener();
  });
}

// The key

/** @param {string | null} key */
async function enter(key) {
  if (!key) return askForKey();
  if (!/^[!-~]+$/.test(key))
    return show(new Problem({ status: 0, title: 'This is no key', detail: 'Keys are of plain letters, digits and signs.' }));
  sessionStorage.setItem(KEY, key);
  now.api = new Api(key);
  now.jobs = new Jobs({ api: now.api, list: byId('jobs'), none: byId('jobs-none'), attempt, announce });
  await attempt(async () => {
    const models = await now.api.models();
    arrange({ hasKey: true });
    offer(models);
    await Promise.all([attempt(showModel), attempt(showJobs)]);
  });
  if (byId('work').hidden) byId('entry').hidden = false; // the server did not answer: the same key may be entered again
}

function forget() {
  sessionStorage.removeItem(KEY);
  for (const controller of Object.values(running)) controller.abort();
  now.jobs?.close();
  Object.assign(now, { api: null, card: null, conditions: null, jobs: null, drawnSeed: '' });
  for (const id of ['card', 'conditions', 'columns-list', 'table', 'plots', 'jobs', 'model']) byId(id).replaceChildren();
  for (const id of ['curl', 'python', 'status']) byId(id).textContent = '';
  askForKey();
}

function askForKey() {
  arrange({ hasKey: false });
  byId('key').value = '';
  byId('key').focus();
}

function arrange({ hasKey }) {
  byId('entry').hidden = hasKey;
  byId('work').hidden = byId('parts').hidden = byId('forget').hidden = !hasKey;
  if (hasKey) byId('key').value = '';
  else byId('about-model').hidden = byId('job-entry').hidden = true;
}

// The model

function offer(models) {
  const options = models.map(({ id, rows }) => element('option', { value: id }, `${id} (${counted(rows, 'row')})`));
  byId('model').replaceChildren(...options);
}

async function showModel() {
  const signal = next('model');
  hideProblem();
  running.rows.abort();
  now.drawnSeed = '';
  for (const id of ['about-model', 'job-entry', 'result']) byId(id).hidden = true;
  const model = byId('model').value;
  if (!model) return byId('card').replaceChildren(element('p', {}, 'This server has no published model.'));
  byId('card').replaceChildren();
  announce('Reading the card …');
  now.card = await now.api.card(model, signal);
  byId('card').replaceChildren(...cardOf(now.card));
  const ticks = now.card.schema.map(({ name }) => tick({ checked: true, 'data-column': name }, name));
  byId('columns-list').replaceChildren(...ticks);
  for (const id of ['about-model', 'job-entry']) byId(id).hidden = false;
  byId('own').hidden = !Object.keys(now.card.where).length;
  byId('own-condition').textContent = written(now.card.where);
  makeConditions();
  announce('');
}

function makeConditions() {
  byId('unconditioned').checked = false;
  now.conditions = new Conditions(now.card.schema, now.card.profile);
  byId('conditions').replaceChildren(...now.conditions.nodes);
  showCalls();
}

/** null stands for the data set's own condition, {} for none. */
function where() {
  return now.conditions.where() ?? (byId('unconditioned').checked ? {} : null);
}

function columnBoxes() {
  return [...byId('columns-list').querySelectorAll('input')];
}

function tickColumns(isTicked) {
  for (const box of columnBoxes()) box.checked = isTicked;
  showCalls();
}

/** null stands for all of them. @returns {string[] | null} */
function chosenColumns() {
  const boxes = columnBoxes();
  const ticked = boxes.filter((box) => box.checked);
  return ticked.length === boxes.length ? null : ticked.map((box) => box.dataset.column);
}

// Rows

/** What the form asks for. @returns {import('./api.js').Request} */
function request() {
  const seed = byId('seed').value || now.drawnSeed;
  return {
    rows: whole(byId('rows').value),
    seed: seed === '' ? null : whole(seed),
    offset: whole(byId('offset').value),
    where: where(),
    columns: chosenColumns(),
  };
}

async function preview(signal) {
  if (!byId('seed').value) now.drawnSeed = ''; // a preview draws anew; downloads and calls keep to its seed
  const asked = request();
  const most = now.card.schema.some(({ kind }) => kind === 'image') ? MOST_PICTURED : MOST_PREVIEWED;
  const rows = asked.rows > most ? most : asked.rows;
  const began = performance.now();
  const sample = await now.api.preview(now.card.id, { ...asked, rows }, signal);
  now.drawnSeed = sample.seed;
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const part = rows === asked.rows ? '' : ` The first ${count(rows)} of ${counted(asked.rows, 'row')}: a download has them all.`;
  byId('sample-facts').textContent = `${counted(sample.rows.length, 'row')} in ${seconds} s, seed ${sample.seed}.${part}`;
  showSample(sample, asked);
  showCalls();
  announce(`${counted(sample.rows.length, 'row')} are shown.`);
}

function showSample(sample, asked) {
  const { schema, profile } = now.card;
  const { drawn, note } = figures(sample, schema, profile);
  byId('result').hidden = false;
  byId('table').replaceChildren(rowsTable(sample, schema));
  byId('table').scrollTo(0, 0);
  byId('plots').replaceChildren(...drawn);
  const isConditioned = Object.keys(asked.where ?? now.card.where).length > 0;
  const shifted = isConditioned ? 'The real rows are all of them, the synthetic ones only those that meet the conditions. ' : '';
  byId('plots-note').textContent = `${shifted}${note}`;
}

async function download(format, signal) {
  const asked = request();
  announce('The download is under way …');
  const { blob, rows, seed } = await now.api.file(now.card.id, asked, format, signal);
  const link = element('a', { href: URL.createObjectURL(blob), download: `${now.card.id}.${FORMATS[format].extension}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), FAR_FROM_KEPT_MS);
  announce(`Downloaded ${link.download}: ${rows === null ? '' : `${count(Number(rows))} rows, `}${size(blob.size)}, seed ${seed}.`);
}

// The same from elsewhere

function showCalls() {
  const asked = request();
  const hasAll = asked.columns === null;
  byId('columns-told').textContent = hasAll
    ? `all ${now.card.schema.length}`
    : `${asked.columns.length} of ${now.card.schema.length}`;
  byId('curl').textContent = curlCall(now.card.id, asked);
  byId('python').textContent = pythonCall(now.card.id, asked);
  const holds = asked.where ?? now.card.where;
  byId('job-where').textContent = Object.keys(holds).length ? written(holds) : 'not at all';
}

/** @param {HTMLElement} code */
async function copy(code) {
  getSelection()?.selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent ?? '');
    announce('Copied.');
  } catch {
    announce('Selected: copy it with Ctrl+C.'); // there is no clipboard where the page came by plain http
  }
}

// Jobs

async function showJobs() {
  let isOff = false;
  try {
    await now.jobs.load(next('jobs'));
  } catch (error) {
    if (error.status !== 404) throw error;
    isOff = true;
  }
  byId('jobs-work').hidden = isOff;
  byId('jobs-off').hidden = !isOff;
}

async function startJob() {
  if (!isValid(byId('job-form')) || !isValid(byId('sample-form'))) return;
  const seed = byId('job-seed').value;
  await now.jobs.start({
    model: now.card.id,
    rows: whole(byId('job-rows').value),
    seed: seed === '' ? null : whole(seed),
    where: where(),
    rows_per_part: null,
  });
}

// One request of a kind at a time; what goes wrong is shown

/** The signal of the next request of this kind; the one before is aborted. @param {string} kind */
function next(kind) {
  running[kind].abort();
  running[kind] = new AbortController();
  return running[kind].signal;
}

/** A task on rows, if the form can be sent: meanwhile it can be stopped. @param {(signal: AbortSignal) => Promise<void>} task */
async function whileBusy(task) {
  if (!isValid(byId('sample-form'))) return;
  if (chosenColumns()?.length === 0)
    return show(new Problem({ status: 0, title: 'No column is chosen', detail: 'Choose at least one.' }));
  const signal = next('rows');
  arrangeBusy(true);
  await attempt(() => task(signal));
  if (running.rows.signal === signal) arrangeBusy(false);
}

function arrangeBusy(isBusy) {
  byId('stop').hidden = !isBusy;
  byId('result').setAttribute('aria-busy', String(isBusy));
}

/** The first field that is wrong is unfolded and told of. @param {HTMLElement} form */
function isValid(form) {
  const wrong = form.querySelector('input:invalid');
  for (let folded = wrong?.closest('details'); folded; folded = folded.parentElement.closest('details')) folded.open = true;
  return form.reportValidity();
}

/** @param {() => unknown} task */
async function attempt(task) {
  try {
    await task();
  } catch (error) {
    if (error.name === 'AbortError') return;
    show(error);
    if (error.status === 401) forget();
    if (!(error instanceof Problem)) throw error;
  }
}

/** @param {Error | Problem} error */
function show(error) {
  const { title = 'The page has a fault', detail = error.message, requestId, retryAfter } = error;
  byId('problem-title').textContent = title;
  byId('problem-detail').textContent = retryAfter ? `${detail} Try again in ${retryAfter} s.` : detail;
  byId('problem-request').textContent = requestId ? `Request ${requestId}` : '';
  byId('problem').hidden = false;
  byId('status').textContent = '';
}

/** A problem is told until the next button is pressed, Enter in a form included. */
function hideProblem() {
  byId('problem').hidden = true;
}

/** A sentence for a while. @param {string} text */
function announce(text) {
  byId('status').textContent = text;
  clearTimeout(now.announced);
  now.announced = setTimeout(() => (byId('status').textContent = ''), ANNOUNCED_MS);
}
