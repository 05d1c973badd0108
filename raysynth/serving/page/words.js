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

/** A text that does not flood the page. @param {string} text */
export function short(text, most = 80) {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}
