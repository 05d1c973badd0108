/** Numbers, sizes, durations and cells → the few characters that the page shows, as the report words them. */

/** A score or a bound in few digits; a dash where there is none. @param {number | null | undefined} value */
export function shown(value, digits = 4) {
  return value === null || value === undefined ? '–' : String(Number(Number(value).toPrecision(digits)));
}

/** @param {number | bigint | string} rows */
export function count(rows) {
  return typeof rows === 'string' ? rows : rows.toLocaleString('en-US');
}

/** `1 row`, `2 rows`. @param {number} number @param {string} noun */
export function counted(number, noun) {
  return `${count(number)} ${noun}${Number(number) === 1 ? '' : 's'}`;
}

/** @param {number} share in [0, 1] */
export function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
  return `${(bytes / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** A category's value or a cell, as text that is never empty. @param {unknown} value */
export function named(value) {
  if (value === null) return 'missing';
  return value === '' ? '(empty text)' : String(value);
}

/** The language to show a text in, which decides the forms of Chinese characters: zh, ja, ko, or '', not known. @param {string} text */
export function tongue(text) {
  if (/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text)) return 'ja';
  if (/\p{Script=Hangul}/u.test(text)) return 'ko';
  return /\p{Script=Han}/u.test(text) ? 'zh' : '';
}

/** A text that does not flood the page. @param {string} text */
export function short(text, most = 80) {
  if (text.length <= most) return text;
  const isHalf = /[\ud800-\udbff]$/.test(text.slice(0, most - 1)); // of a character that takes two places
  return `${text.slice(0, most - (isHalf ? 2 : 1))}…`;
}
