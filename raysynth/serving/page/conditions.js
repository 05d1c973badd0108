/** A model's schema and profile → controls, and what they are set to → the `where` of a request. */

import { element, tick } from './elements.js';
import { whole } from './json.js';
import { named, percent, short, shown, tongue } from './words.js';

/**
 * @typedef {{name: string, kind: string, type: string, nullable: boolean, derived: boolean}} Column
 * @typedef {{missing: number, values?: [unknown, number][], edges?: (number | string)[], shares?: number[]}} Profile  of the real rows
 * @typedef {{node: HTMLElement, condition: () => unknown, told: () => string}} Control  `condition` is undefined where nothing is set
 */

const INPUTS = { date: 'date', datetime: 'datetime-local', time: 'time', integer: 'number', number: 'number', duration: 'number' };
const MOST_TOLD = 3;
const MOST_BEGINNING = 10_000; // characters, as the server takes them

/** The controls of one model's columns. */
export class Conditions {
  /** @type {Map<string, Control>} */
  #controls = new Map();

  /** @param {Column[]} schema @param {Record<string, Profile>} profile */
  constructor(schema, profile) {
    for (const column of schema) {
      const make = makerOf(column);
      if (make) this.#controls.set(column.name, folded(column, make(column, profile[column.name] ?? { missing: 0 })));
    }
  }

  get nodes() {
    return [...this.#controls.values()].map((control) => control.node);
  }

  /** null where nothing is set. @returns {Record<string, unknown> | null} */
  where() {
    const set = [...this.#controls]
      .map(([name, control]) => [name, control.condition()])
      .filter(([, value]) => value !== undefined);
    return set.length ? Object.fromEntries(set) : null;
  }
}

function makerOf({ kind }) {
  if (kind === 'category' || kind === 'boolean') return choice;
  if (kind === 'text') return beginning;
  return kind in INPUTS ? range : null;
}

/** The control folded away under the column's name, beside which stands what is set. */
function folded(column, control) {
  const told = element('span', { class: 'told' }, 'any');
  const marks = element('small', {}, ` ${column.kind}${column.derived ? ', derived' : ''} `);
  const node = element(
    'details',
    { 'data-condition': column.name },
    element('summary', {}, element('b', {}, column.name), marks, told),
    control.node,
  );
  node.addEventListener('input', () => {
    told.textContent = control.told();
    node.toggleAttribute('data-set', control.condition() !== undefined);
  });
  return { ...control, node };
}

/** Some of the values: the frequent ones to tick, others to type. @returns {Control} */
function choice(column, profile) {
  const ticks = offered(column, profile).map(([value, share]) => ({ value, box: choiceTick(value, share) }));
  const other = column.kind === 'category' && element('textarea', { rows: 2, spellcheck: false, 'data-other': column.name });
  const typedIn = () =>
    (other ? other.value.split('\n').filter((line) => line.trim()) : []).map((line) => typed(line.trim(), column));
  const chosen = () => [...ticks.filter(({ box }) => box.firstChild.checked).map(({ value }) => value), ...typedIn()];
  return {
    node: element(
      'div',
      { class: 'choices' },
      element('div', { class: 'ticks' }, ...ticks.map(({ box }) => box)),
      other && element('label', { class: 'field' }, 'Other values, one on each line', other),
    ),
    condition: () => (chosen().length ? chosen() : undefined),
    told: () => list(chosen().map(named)),
  };
}

function choiceTick(value, share) {
  const label = [short(named(value)), share !== null && element('small', {}, ` ${percent(share)}`)];
  return tick({ 'data-value': value === null ? false : String(value), 'data-missing': value === null }, ...label);
}

/** The frequent values with their shares, then null where the column has any. @returns {[unknown, number | null][]} */
function offered(column, profile) {
  const frequent = (profile.values ?? []).map(([value, share]) => [typed(value, column), share]);
  const known = new Set(frequent.map(([value]) => value));
  const unseen = column.kind === 'boolean' ? [true, false].filter((value) => !known.has(value)).map((value) => [value, null]) : [];
  return [...frequent, ...unseen, ...(column.nullable ? [[null, profile.missing]] : [])];
}

/** From a minimum to a maximum, or only the rows without a value. @returns {Control} */
function range(column, profile) {
  const [low, high] = ends(column, profile);
  const minimum = boundInput(column, 'min', low);
  const maximum = boundInput(column, 'max', high);
  const missing = tick({ 'data-missing': true }, 'only missing ones', element('small', {}, ` ${percent(profile.missing)}`));
  const onlyMissing = () => missing.firstChild.checked;
  missing.addEventListener('input', () => {
    minimum.disabled = maximum.disabled = onlyMissing();
  });
  const bounds = () => Object.entries({ min: minimum.value, max: maximum.value }).filter(([, text]) => text !== '');
  return {
    node: element(
      'div',
      { class: 'choices' },
      element('div', { class: 'row' }, bounded('From', minimum), bounded('To', maximum)),
      element('p', { class: 'muted' }, hint(column, low, high)),
      column.nullable && missing,
    ),
    condition: () => {
      if (onlyMissing()) return null;
      return bounds().length ? Object.fromEntries(bounds().map(([end, text]) => [end, typed(text, column)])) : undefined;
    },
    told: () =>
      onlyMissing()
        ? 'missing'
        : list(
            bounds().map(([end, text]) => `${end === 'min' ? 'from' : 'to'} ${text}`),
            ' ',
          ),
  };
}

/** How every text begins: a prompt, taken as it is typed, blanks and line breaks included. @returns {Control} */
function beginning(column) {
  const attributes = { rows: 2, dir: 'auto', spellcheck: false, maxlength: MOST_BEGINNING, 'data-starts': column.name };
  const prompt = element('textarea', attributes);
  prompt.addEventListener('input', () => prompt.setAttribute('lang', tongue(prompt.value)));
  return {
    node: element('div', { class: 'choices' }, element('label', { class: 'field' }, 'Begins with', prompt)),
    condition: () => (prompt.value ? { starts: prompt.value } : undefined),
    told: () => (prompt.value ? `${short(prompt.value.trim() || 'blanks', 40)} …` : 'any'),
  };
}

function boundInput(column, end, placeholder) {
  const step = { integer: 1, duration: 1, number: 'any' }[column.kind] ?? 1; // of times: a second, or a day
  return element('input', { type: INPUTS[column.kind], step, placeholder, [`data-${end}`]: column.name });
}

function bounded(label, input) {
  return element('label', { class: 'field' }, label, input);
}

function hint(column, low, high) {
  const unit = /^duration\[(.+)\]$/.exec(column.type)?.[1];
  const zone = /tz=(.+)\]$/.exec(column.type)?.[1];
  const of = low === '' ? '' : `Most real rows: ${low} to ${high}`;
  return [of, unit && `in ${unit}`, zone && `times in ${zone}`].filter(Boolean).join(', ');
}

/** Where the real rows' histogram begins and ends, as texts: all but the outermost hundredths lie between. */
function ends(column, { edges = [] }) {
  if (!edges.length) return ['', ''];
  const [low, high] = [edges[0], edges.at(-1)];
  if (typeof low === 'string' || typeof high === 'string')
    return [low, high].map((edge) => String(edge).replace('T', ' ').replace(/\.\d+/, ''));
  return column.kind === 'integer' ? [String(Math.ceil(low)), String(Math.floor(high))] : [shown(low), shown(high)];
}

/** A value as JSON has it for the column's type. Decimals stay text, which keeps every digit. */
function typed(value, { type }) {
  if (typeof value !== 'string') return value;
  if (type === 'bool') return value.toLowerCase() === 'true';
  if (/^(u?int|duration)/.test(type)) return whole(value);
  return /^(float|double|halffloat)/.test(type) ? Number(value) : value;
}

function list(texts, between = ', ') {
  if (!texts.length) return 'any';
  const more = texts.length - MOST_TOLD;
  return short(texts.slice(0, MOST_TOLD).join(between), 60) + (more > 0 ? ` and ${more} more` : '');
}
