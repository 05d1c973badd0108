/** Synthetic rows and the profile of the real ones → a figure for each column: both distributions, as a drawing and in numbers. */

import { details, drawing, element, table } from './elements.js';
import { named, percent, short, shown } from './words.js';

/** @typedef {import('./conditions.js').Column} Column @typedef {import('./conditions.js').Profile} Profile */

const MOST_CLASSES = 12;
const WIDTH = 300;
const HEIGHT = 112;
const FLOOR = 92; // where the bars stand; the axis is written below
const SIDE = 8;

/**
 * @param {Column} column @param {Profile | undefined} profile @param {unknown[]} cells of the synthetic rows
 * @returns {HTMLElement | null} null for ids, texts, images and JSON, which have no distribution to show
 */
export function figure(column, profile, cells) {
  const content = contentOf(column, profile, cells);
  return content && element('figure', { 'data-plot': column.name }, caption(column), missing(profile, cells), ...content);
}

function contentOf(column, profile, cells) {
  if (column.kind === 'category' || column.kind === 'boolean') return classes(column, profile, cells);
  if (['id', 'text', 'turns', 'image', 'json'].includes(column.kind)) return null;
  const edges = (profile?.edges ?? []).map((edge) => place(edge, column.kind));
  const shares = profile?.shares ?? [];
  if (edges.length < 2 || edges.some(Number.isNaN)) return [element('p', {}, 'No distribution of the real rows is kept.')];
  return histogram(column, edges, shares, cells);
}

function caption(column) {
  return element(
    'figcaption',
    {},
    element('h4', {}, column.name),
    element('small', {}, `${column.kind}${column.derived ? ', derived' : ''}`),
  );
}

function missing(profile, cells) {
  const share = nullShare(cells);
  const real = profile ? `${percent(profile.missing)} real, ` : '';
  return Boolean(share || profile?.missing) && element('p', {}, `Missing: ${real}${percent(share)} synthetic.`);
}

function nullShare(cells) {
  return cells.filter((cell) => cell === null).length / Math.max(1, cells.length);
}

// Classes

/** A table with two bars for each value, the most frequent real ones first; shares of all rows. */
function classes(column, profile, cells) {
  const { rows, others } = classShares(profile?.values ?? [], profile?.missing ?? 0, cells);
  const most = Math.max(1e-9, ...rows.flatMap(({ shares }) => shares));
  const told = ([real, synthetic]) => [profile?.values ? percent(real) : '–', element('br'), percent(synthetic)];
  const line = (name, shares, drawn) => [name, drawn, element('span', {}, ...told(shares))];
  const lines = rows.map(({ name, shares }) => line(name, shares, bars(shares.map((share) => share / most))));
  if (others) lines.push(line('all others', others, null)); // no bar: it would make needles of the rest
  if (!lines.length) return [element('p', {}, 'No value on either side.')];
  return [
    table(['Value', 'Bars', 'Real, synthetic'], lines, { class: 'bars', 'aria-label': `${column.name}: shares of its values` }),
  ];
}

/** @returns {{rows: {name: string, shares: number[]}[], others: number[] | null}} the shares among real and among synthetic rows */
function classShares(values, missingShare, cells) {
  const counts = new Map();
  for (const cell of cells) if (cell !== null) counts.set(String(cell), (counts.get(String(cell)) ?? 0) + 1);
  const real = new Map(values.map(([value, share]) => [String(value), share]));
  const synthetic = (name) => (counts.get(name) ?? 0) / Math.max(1, cells.length);
  const either = [...new Set([...real.keys(), ...counts.keys()])].map((name) => ({
    name,
    shares: [real.get(name) ?? 0, synthetic(name)],
  }));
  either.sort((one, other) => other.shares[0] + other.shares[1] - one.shares[0] - one.shares[1]);
  const rows = either.slice(0, MOST_CLASSES).map(({ name, shares }) => ({ name: short(named(name), 40), shares }));
  const rest = [1 - missingShare, 1 - nullShare(cells)];
  const left = rest.map((share, side) => Math.max(0, share - rows.reduce((sum, { shares }) => sum + shares[side], 0)));
  return { rows, others: left.some((share) => share > 0.0005) ? left : null };
}

function bars([real, synthetic]) {
  const bar = (side, share, y) =>
    drawing('rect', { class: side, x: 0, y, height: 7, rx: 1.5, width: `${(100 * share).toFixed(2)}%` });
  return drawing('svg', { class: 'pair', 'aria-hidden': true }, bar('real', real, 0), bar('synthetic', synthetic, 8));
}

// Numbers and times

/** The real rows as filled bars, the synthetic ones as a line of steps; of each side the share of its own values. */
function histogram(column, edges, shares, cells) {
  const values = cells.filter((cell) => cell !== null).map((cell) => place(cell, column.kind));
  const total = shares.reduce((sum, share) => sum + share, 0) || 1;
  const sides = [shares.map((share) => share / total), binShares(edges, values)];
  return [picture(column, edges, sides), details('In numbers', numbers(column, edges, sides))];
}

/** Values → the share of them in each bin. As among the real rows, the first and the last one take whatever lies beyond them too. */
function binShares(edges, values) {
  const counts = new Array(edges.length - 1).fill(0);
  const known = values.filter((value) => !Number.isNaN(value));
  for (const value of known) {
    const above = edges.findIndex((edge) => value < edge);
    counts[above < 0 ? counts.length - 1 : Math.max(0, above - 1)] += 1;
  }
  return counts.map((found) => found / Math.max(1, known.length));
}

function picture(column, edges, sides) {
  const span = edges.at(-1) - edges[0] || 1;
  const x = (edge) => SIDE + ((WIDTH - 2 * SIDE) * (edge - edges[0])) / span;
  const widths = edges.slice(1).map((edge, at) => Math.max((edge - edges[at]) / span, 1e-3));
  const heights = sides.map((shares) => shares.map((share, at) => share / widths[at])); // densities: bins may differ in width
  const most = Math.max(1e-9, ...heights.flat());
  const y = (height) => FLOOR - (FLOOR - 6) * (height / most);
  const filled = heights[0].map((height, at) =>
    drawing('rect', {
      class: 'real',
      x: x(edges[at]),
      y: y(height),
      width: Math.max(1, x(edges[at + 1]) - x(edges[at])),
      height: FLOOR - y(height),
    }),
  );
  const steps = heights[1].map((height, at) => `V${y(height).toFixed(1)}H${x(edges[at + 1]).toFixed(1)}`);
  const line = drawing('path', { class: 'synthetic', d: `M${x(edges[0]).toFixed(1)} ${FLOOR}${steps.join('')}V${FLOOR}` });
  const axis = drawing('path', { class: 'axis', d: `M${SIDE} ${FLOOR}H${WIDTH - SIDE}` });
  const attributes = {
    class: 'plot',
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: 'img',
    'aria-label': alternative(column, edges, sides),
  };
  return drawing('svg', attributes, ...filled, axis, line, ...ticks(column, edges, x));
}

/** What the drawing shows, in a sentence. */
function alternative(column, edges, sides) {
  const [real, synthetic] = sides.map((shares) => {
    const at = shares.indexOf(Math.max(...shares));
    return `${written(edges[at], column.kind)} to ${written(edges[at + 1], column.kind)} (${percent(shares[at])})`;
  });
  return `${column.name}: histogram. The fullest bin of real rows is ${real}, of synthetic rows ${synthetic}.`;
}

function ticks(column, edges, x) {
  const [low, high] = [edges[0], edges.at(-1)];
  const thirds = () => [1 / 6, 1 / 2, 5 / 6].map((share) => low + share * (high - low));
  const places = isTemporal(column.kind) ? thirds() : roundPlaces(low, high, column.kind === 'number' ? 0 : 1);
  return places.map((at) => drawing('text', { x: x(at), y: HEIGHT - 7, 'text-anchor': anchor(x(at)) }, written(at, column.kind)));
}

function anchor(x) {
  if (x < 24) return 'start';
  return x > WIDTH - 24 ? 'end' : 'middle';
}

/** About four round numbers from low to high, `least` apart at least. */
function roundPlaces(low, high, least) {
  if (!(high > low)) return [low];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.8) * power);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, at) => (first + at) * step);
}

function numbers(column, edges, sides) {
  const rows = sides[0].map((share, at) => [
    `${written(edges[at], column.kind)} to ${written(edges[at + 1], column.kind)}`,
    percent(share),
    percent(sides[1][at]),
  ]);
  return table(['Bin', 'Real', 'Synthetic'], rows, { class: 'numbers' });
}

function isTemporal(kind) {
  return kind === 'date' || kind === 'datetime' || kind === 'time';
}

/** A cell or an edge → where it lies on the axis: numbers as they are, times in milliseconds; NaN where it lies nowhere. */
function place(value, kind) {
  if (!isTemporal(kind) || typeof value !== 'string') return Number(value);
  if (kind === 'time') return Date.parse(`1970-01-01T${value}Z`);
  const [day, clock = '00:00Z'] = value.split(/[T ]/);
  const [, told, zone = 'Z'] = /^([\d:.]+?)(Z|[+-]\d\d(?::?\d\d)?)?$/.exec(clock) ?? [];
  return Date.parse(`${day}T${told}${zone.replace(/^(...)(\d\d)$/, '$1:$2')}`);
}

function written(at, kind) {
  if (!isTemporal(kind)) return shown(at);
  const iso = Number.isFinite(at) ? new Date(at).toISOString() : '–';
  if (kind === 'time') return iso.slice(11, 16);
  return kind === 'date' ? iso.slice(0, 10) : iso.slice(0, 16).replace('T', ' ');
}
