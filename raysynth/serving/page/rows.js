/** A preview's answer → the table of its first rows, and the figures of its columns. */

import { element, table } from './elements.js';
import { figure } from './plots.js';
import { counted, short, shown, size, tongue } from './words.js';

/** @typedef {{columns: string[], rows: unknown[][]}} Sample @typedef {import('./conditions.js').Column} Column */

export const MOST_ROWS = 100;
const MOST_FIGURES = 60;
const MOST_CHARACTERS = 200;
const MOST_OF_A_TEXT = 1000;
const IMAGES = { iVBORw: 'png', '/9j/': 'jpeg', UklGR: 'webp' }; // how their files begin, in base64

/** @param {Sample} sample @param {Column[]} schema */
export function rowsTable(sample, schema) {
  const kinds = new Map(schema.map((column) => [column.name, column.kind]));
  const isNumber = sample.columns.map((name) => ['integer', 'number', 'duration'].includes(kinds.get(name) ?? ''));
  const isText = sample.columns.map((name) => kinds.get(name) === 'text');
  const isImage = sample.columns.map((name) => kinds.get(name) === 'image');
  const isTurns = sample.columns.map((name) => kinds.get(name) === 'turns');
  const heads = sample.columns.map((name, at) => element('span', { class: isNumber[at] && 'number' }, name));
  const cellOf = (cell, at) => {
    if (cell !== null && isText[at]) return shownText(cell);
    if (isImage[at] && cell?.bytes) return shownImage(cell.bytes, sample.columns[at]);
    return cell !== null && isTurns[at] ? shownTurns(cell) : shownCell(cell, isNumber[at]);
  };
  const lines = sample.rows
    .slice(0, MOST_ROWS)
    .map((row, at) => [String(at + 1), ...row.map(cellOf)]);
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

/** A text to read: wrapped, each line in its own direction, whatever the directions around it are. */
function shownText(cell) {
  if (cell === '') return element('span', { class: 'null' }, '(empty text)');
  const text = short(String(cell), MOST_OF_A_TEXT);
  return element('div', { class: 'text', dir: 'auto', lang: tongue(text) }, text);
}

/** @param {string} bytes in base64, of a PNG, JPEG or WebP file @param {string} name of the column */
function shownImage(bytes, name) {
  const kind = Object.keys(IMAGES).find((start) => bytes.startsWith(start));
  const weight = size(Math.floor((bytes.length * 3) / 4));
  if (!kind) return element('span', { class: 'null' }, `an image that cannot be shown, ${weight}`);
  const told = `${name}: ${IMAGES[kind].toUpperCase()}, ${weight}`;
  return element('img', { src: `data:image/${IMAGES[kind]};base64,${bytes}`, alt: told, title: told, loading: 'lazy' });
}

/** A conversation, a paragraph for each turn. @param {{role: string, content: string}[]} turns */
function shownTurns(turns) {
  const lines = turns.map(({ role, content }) => element('div', {}, element('small', {}, `${role} `), shownText(content)));
  return element('div', { class: 'turns' }, ...lines);
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
