/** JSON ↔ values, with whole numbers beyond 2^53 kept exact, as BigInt: seeds and ids have up to 64 bits. */

/** @param {string} text */
export function parsed(text) {
  return JSON.parse(text, (_key, value, context) => {
    const exact = context?.source; // older browsers do not say what stood there: they round
    return typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(exact ?? '') ? BigInt(exact) : value;
  });
}

/** @param {unknown} value */
export function written(value) {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map(written).join(', ')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}: ${written(inner)}`)
    .join(', ')}}`;
}

/** The text of a whole number → number, or BigInt where a number would round. @param {string} text */
export function whole(text) {
  const number = Number(text);
  return Number.isSafeInteger(number) || !/^-?\d+$/.test(text.trim()) ? number : BigInt(text);
}
