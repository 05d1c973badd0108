/** A preview's answer → the table of its first rows, and the figures of its columns. */

import { element, table } from './elements.js';
import { figure } from './plots.js';
import { counted, short, shown } from './words.js';

/** @typedef {{columns: string[], rows: unknown[][]}} Sample @typedef {import('./conditions.js').Column} Column */

export const MOST_ROWS = 100;
const MOST_FIGURES = 60;
const MOST_CHARACTERS = 200;

/** @param {Sample} sample @param {Column[]} schema */
export function rowsTable(sample, schema) {
  const kinds = new Map(schema.map((column) => [column.name, column.kind]));
  const isNumber = sample.columns.map((name) => ['integer', 'number', 'duration'].includes(kinds.get(name) ?? ''));
  const heads = sample.columns.map((name, at) => element('span', { class: isNumber[at] && 'number' }, name));
  const lines = sample.rows
    .slice(0, MOST_ROWS)
    .map((row, at) => [String(at + 1), ...row.map((cell, place) => shownCell(cell, isNumber[place]))]);
  const caption = element(
    'caption',
    {},
    sample.rows.length > MOST_ROWS
      ? `The first ${MOST_ROWS} of ${counted(sample.rows.length, 'row')}`
      : counted(sample.rows.length, 'row'),
  );
  const node = table(['Row', ...heads], lines, { class: 'rows' });
  node.prepend(caption);
  return node;
}

function shownCell(cell, isNumber) {
  if (cell === null) return element('span', { class: isNumber ? 'null number' : 'null' }, 'null');
  if (typeof cell === 'number' && !Number.isInteger(cell))
    return element('span', { class: 'number', title: String(cell) }, shown(cell, 6));
  const text = short(typeof cell === 'object' ? JSON.stringify(cell) : String(cell), MOST_CHARACTERS);
  return element('span', { class: isNumber && 'number', title: text.length > 30 && text }, text);
}

/** A figure for each column that has a distribution, and a sentence on those that have none. */
export function figures(sample, schema, profile) {
  const at = new Map(sample.columns.map((name, place) => [name, place]));
  const columns = schema.filter((column) => at.has(column.name));
  const cellsOf = (column) => sample.rows.map((row) => row[at.get(column.name)]);
  const drawn = [];
  const plain = [];
  for (const column of columns) {
    const found = drawn.length < MOST_FIGURES ? figure(column, profile[column.name], cellsOf(column)) : null;
    if (found) drawn.push(found);
    else plain.push(column.name);
  }
  return { drawn, note: plain.length ? `Without a plot: ${short(plain.join(', '), 500)}.` : '' };
}
