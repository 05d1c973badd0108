/** A model's card → what the page tells of it: verdict, scores against their ceilings, privacy, gates, columns and provenance. */

import { box, details, drawing, element, table } from './elements.js';
import { written } from './json.js';
import { count, counted, short, shown } from './words.js';

/** @typedef {{name: string, value: number | null, worst: number, best: number, ceiling: number | null, columns?: Record<string, number>,
 *   facts?: Record<string, unknown>, why?: string}} Score */

const PRIVACY = new Set([
  'exact_copies',
  'nearer_to_train',
  'text_copies',
  'copied_8grams',
  'longest_copy',
  'image_memorised',
  'image_copies',
]);
const WORST_COLUMNS = 8;

/** The report's words (raysynth/report.py), which a test holds equal to these. */
const EXPLAINED = {
  c2st_auc: 'How well a detector tells synthetic rows from real ones: 0.5 is a coin toss, 1 is every time.',
  column_shapes: 'How alike the distribution of each column is, on average: 1 is the same.',
  pair_trends: 'How alike the columns move together, pair by pair: 1 is the same.',
  precision: 'The share of synthetic rows that lie where real rows lie: are they plausible?',
  recall: 'The share of real rows that lie where synthetic rows lie: is every kind of row there?',
  density: 'How closely real rows surround the synthetic ones; near 1 is as closely as each other, and more is possible.',
  coverage: 'The share of real rows that have a synthetic row close by.',
  utility_synthetic: 'How good a model is on held-out real rows if it learnt from synthetic rows alone.',
  utility_real: 'How good it is if it learnt from real rows: what the other two are measured by.',
  utility_mix: 'How good it is if it learnt from the mix of real and synthetic rows.',
  exact_copies: 'The share of synthetic rows that repeat a real train row cell by cell. Where few rows are possible, some must.',
  nearer_to_train: 'The share of synthetic rows nearer to a train row than to a held-out one: 0.5 if none was learnt by heart.',
  distinct_1: 'How varied the words are: different ones per word.',
  distinct_2: 'How varied pairs of words are: different ones per pair. Below the ceiling the texts repeat themselves.',
  distinct_3: 'How varied runs of three words are: different ones per run.',
  self_overlap: 'The share of runs of four words that stand in another synthetic text too; the ceiling is the habit of real texts.',
  perplexity_of_synthetic: 'How hard the texts are to foresee for a model of real ones, as a choice among so many words. Above the ceiling they are less fluent than real texts; far below it plainer, or copies.',
  perplexity_by_synthetic: 'How hard held-out real texts are to foresee for a model that learnt from synthetic ones.',
  text_lengths: 'How alike the lengths are, in words: 1 is the same.',
  vocabulary: 'The share of the words that real texts have too; the rest is invented or misspelt.',
  text_frechet: 'How far the meanings are from those of real texts, by a sentence encoder: 0 is the same, 2 has nothing in common.',
  text_precision: 'The share of synthetic texts that mean something that real ones mean.',
  text_recall: 'The share of real texts whose meaning synthetic ones reach.',
  text_density: 'How closely real texts surround the synthetic ones in meaning; more than 1 is possible.',
  text_coverage: 'The share of real texts that have a synthetic text of nearly the same meaning.',
  text_mauve: 'How much the laws of the meanings overlap (MAUVE): 1 is the same, 0 has nothing in common. Few texts keep the ceiling below 1.',
  text_copies: 'The share of synthetic texts that are a real train text, but for case and spacing. Short ones often must be.',
  copied_8grams: 'The share of synthetic texts that have eight words in a row from a real train text.',
  longest_copy: 'How many words in a row a synthetic text has, on average, from some real train text; 32 and more count as 32.',
  text_utility_synthetic: 'How well a judge of labels does on held-out real texts if it learnt from synthetic texts alone.',
  text_utility_real: 'How well it does if it learnt from as many real texts: what the other two are measured by.',
  text_utility_mix: 'How well it does if it learnt from the mix of real and synthetic texts.',
  image_frechet: 'How far the pictures are from real ones, by features that a small network learnt from real train pictures: 0 is the same, 2 has nothing in common. Comparable within one data set only.',
  image_kid: 'The same by another measure, which few pictures do not bend: 0 is the same, 14 has nothing in common.',
  image_precision: 'The share of synthetic pictures that lie where real ones lie: do they look plausible?',
  image_recall: 'The share of real pictures that lie where synthetic ones lie: is every kind there?',
  image_density: 'How closely real pictures surround the synthetic ones; more than 1 is possible.',
  image_coverage: 'The share of real pictures that have a synthetic one close by.',
  image_diversity: 'How much the pictures of one label differ, over how much real ones do: 0 is one picture always, 1 is as real ones.',
  image_memorised: 'The share of synthetic pictures as near to a real train picture as the nearest hundredth of held-out ones are, in pixels.',
  image_copies: 'The share of synthetic pictures that equal a real train picture in every pixel, at a small size.',
  image_utility_synthetic: 'How well a small network labels held-out real pictures if it learnt from synthetic ones alone.',
  image_utility_real: 'How well it does if it learnt from as many real pictures: what the other two are measured by.',
  image_utility_mix: 'How well it does if it learnt from the mix of real and synthetic pictures.',
  image_label_fidelity: 'The share of synthetic pictures whose label is what a network of real pictures says of them.',
  label_fidelity: 'The share of synthetic texts whose label is what a judge of real texts says of them.',
};

/** @param {any} card as GET /v1/models/{id} answers @returns {HTMLElement[]} */
export function cardOf(card) {
  const isPrivate = (score) => PRIVACY.has(score.name);
  const fidelity = card.scores.filter((score) => !isPrivate(score));
  const privacy = card.scores.filter(isPrivate);
  return [
    verdict(card),
    facts(card),
    ...part(
      'Scores',
      ...(card.scores.length ? [scoreKey(), scores('Scores', fidelity)] : [element('p', {}, 'This data set was not evaluated.')]),
    ),
    ...(privacy.length ? part('Privacy', caution(), scores('Privacy scores', privacy)) : []),
    ...part('Gates', card.gates.length ? gates(card.gates) : element('p', {}, 'The recipe sets none.')),
    details(`Columns (${card.schema.length})`, columns(card.schema)),
    details('Provenance', provenance(card)),
  ];
}

function part(title, ...children) {
  return [element('h3', {}, title), ...children];
}

function verdict({ gates: all, forced }) {
  const failed = all.filter((gate) => !gate.holds).map((gate) => gate.text);
  const [kind, text] = verdictText(all.length, failed, forced);
  return element(
    'div',
    { id: 'verdict', class: `verdict ${kind}` },
    element('strong', {}, text),
    forced && element('p', {}, failed.join('; ')),
  );
}

function verdictText(gateCount, failed, forced) {
  if (forced) return ['bad', 'Warning: published by force, although a gate fails.'];
  if (!gateCount) return ['none', 'The recipe sets no gates, so nothing was asked of these rows.'];
  if (failed.length)
    return ['bad', `${failed.length} of ${gateCount} gates ${failed.length === 1 ? 'fails' : 'fail'}: ${failed.join('; ')}`];
  return ['good', gateCount === 1 ? 'The one gate holds.' : `All ${gateCount} gates hold.`];
}

function facts(card) {
  const real = card.provenance?.real_rows;
  const told = [
    [count(card.rows), 'rows published'],
    real && [count(real), 'real rows learnt from'],
    [String(card.schema.length), 'columns'],
  ];
  return element(
    'ul',
    { class: 'counts' },
    ...told.filter(Boolean).map(([number, of]) => element('li', {}, element('b', {}, number), ` ${of}`)),
  );
}

function caution() {
  const words = element('b', {}, 'The privacy scores are smoke tests: a pass proves nothing.');
  return element('p', {}, words, ' They find a generator that repeats its rows; that one gives nobody away they cannot show.');
}

/** @param {string} label @param {Score[]} all */
function scores(label, all) {
  const rows = all.map((score) => [scoreName(score), shown(score.value), shown(score.ceiling), meter(score)]);
  return box(label, table(['Score', 'Value', 'Ceiling', 'Worst to best'], rows, { class: 'scores' }));
}

function scoreKey() {
  const key = (mark, text) => element('span', { class: 'key' }, element('i', { class: mark }), text);
  return element('p', { class: 'keys' }, key('', 'these rows'), key('tick-mark', 'ceiling: held-out real rows'));
}

function scoreName(score) {
  const told = Object.entries(score.facts ?? {}).filter(([, fact]) => ['number', 'string', 'boolean'].includes(typeof fact));
  const text = told
    .map(([name, fact]) => `${name.replaceAll('_', ' ')}: ${typeof fact === 'number' ? count(fact) : fact}`)
    .join(' · ');
  return element(
    'div',
    {},
    score.name,
    EXPLAINED[score.name] && element('small', {}, EXPLAINED[score.name]),
    score.why && element('small', {}, `Not to be had: ${score.why}.`),
    text && element('small', {}, text),
    worstColumns(score),
  );
}

/** The columns, or pairs of them, whose own value is furthest from the best. @param {Score} score */
function worstColumns(score) {
  const found = Object.entries(score.columns ?? {}).sort(([, one], [, other]) => nearness(one, score) - nearness(other, score));
  if (!found.length) return null;
  const rows = found.slice(0, WORST_COLUMNS).map(([name, value]) => [name, shown(value)]);
  return details(
    found.length > WORST_COLUMNS ? `The worst ${WORST_COLUMNS} of ${found.length}` : 'By column',
    table(['Column', 'Value'], rows),
  );
}

/** 0 at the worst, 1 at the best. */
function nearness(value, { worst, best }) {
  return Math.min(1, Math.max(0, (value - worst) / (best - worst || 1)));
}

/** @param {Score} score */
function meter(score) {
  const { value, worst, best, ceiling } = score;
  const percentOf = (at) => `${(100 * nearness(at, score)).toFixed(2)}%`;
  const hasCeiling = ceiling !== null && ceiling !== undefined;
  const scale = `${shown(value)} on a scale from ${shown(worst)} (worst) to ${shown(best)} (best)`;
  const label = hasCeiling ? `${scale}, ceiling ${shown(ceiling)}` : scale;
  return element(
    'div',
    {},
    drawing(
      'svg',
      { class: 'meter', role: 'img', 'aria-label': label },
      drawing('rect', { class: 'scale', y: 4, width: '100%', height: 12, rx: 6 }),
      value !== null && drawing('rect', { class: 'synthetic', y: 4, width: percentOf(value), height: 12, rx: 6 }),
      hasCeiling &&
        drawing('rect', { class: 'mark', x: percentOf(ceiling), y: 0, width: 4, height: 20, transform: 'translate(-2)' }),
    ),
    element(
      'span',
      { class: 'ends', 'aria-hidden': 'true' },
      element('span', {}, `${shown(worst)} worst`),
      element('span', {}, `best ${shown(best)}`),
    ),
  );
}

function gates(all) {
  const rows = all.map(({ text, holds, values }) => [
    element('code', {}, text),
    holds ? element('span', { class: 'yes' }, '✓ holds') : element('span', { class: 'no' }, '✗ fails'),
    Object.entries(values ?? {})
      .map(([name, value]) => `${name} = ${value === null ? 'not to be had' : shown(value)}`)
      .join(', '),
  ]);
  return box('Gates', table(['Gate', 'Verdict', 'Scores that it reads'], rows, { class: 'gates' }));
}

function columns(schema) {
  const flag = (value) => (value ? 'yes' : 'no');
  const rows = schema.map(({ name, kind, type, nullable, derived }) => [
    name,
    kind,
    element('code', {}, type),
    flag(nullable),
    flag(derived),
  ]);
  return box('Columns', table(['Column', 'Kind', 'Type', 'May be missing', 'Derived'], rows));
}

function provenance(card) {
  const { versions = {}, real_rows: real, ...made } = card.provenance ?? {};
  const told = {
    Digest: card.digest,
    Seed: card.seed,
    Rules: card.rules?.join('; '),
    Conditions: card.where && written(card.where),
    'Real rows': real && counted(real, 'row'),
    ...Object.fromEntries(Object.entries(made).map(([name, value]) => [name[0].toUpperCase() + name.slice(1), value])),
    Versions: Object.entries(versions)
      .map((pair) => pair.join(' '))
      .join(', '),
  };
  const known = Object.entries(told).filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== '{}');
  return element(
    'dl',
    {},
    ...known.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, short(String(value), 2000))]),
  );
}
