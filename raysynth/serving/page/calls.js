/** A model and a request → the same call for a shell and for Python. The key is never in them: they read $RAYSYNTH_KEY. */

import { address, samplePath } from './api.js';
import { written } from './json.js';

/** @typedef {import('./api.js').Request} Request */

/** @param {string} model @param {Request} request */
export function curlCall(model, request) {
  return [
    `curl --fail-with-body -sS ${shellQuoted(address(samplePath(model)))}`,
    '-H "Authorization: Bearer $RAYSYNTH_KEY"',
    "-H 'Content-Type: application/json' -H 'Accept: text/csv'",
    `-d ${shellQuoted(written(withoutDefaults(request)))}`,
    `-o ${shellQuoted(`${model}.csv`)}`,
  ].join(' \\\n  ');
}

/** @param {string} model @param {Request} request */
export function pythonCall(model, request) {
  const server = address('').replace(/\/$/, '');
  const named = Object.entries(withoutDefaults(request)).map(([name, value]) => `${name}=${pythonLiteral(value)}`);
  return [
    'import os',
    'from raysynth.client import Client',
    '',
    `client = Client(${pythonLiteral(server)}, os.environ["RAYSYNTH_KEY"])`,
    `rows = client.sample(${[pythonLiteral(model), ...named].join(', ')})`,
  ].join('\n');
}

/** @param {Request} request */
function withoutDefaults(request) {
  return Object.fromEntries(
    Object.entries(request).filter(([name, value]) => value !== null && !(name === 'offset' && value === 0)),
  );
}

function shellQuoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** JSON's numbers and texts are Python's too; its constants are not. */
function pythonLiteral(value) {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(', ')}]`;
  if (typeof value === 'object')
    return `{${Object.entries(value)
      .map(([name, inner]) => `${JSON.stringify(name)}: ${pythonLiteral(inner)}`)
      .join(', ')}}`;
  return written(value);
}
