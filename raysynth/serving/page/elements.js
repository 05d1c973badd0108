/** A name, attributes and children → an element. Texts become text nodes: nothing that comes from the server is ever parsed as HTML. */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * @typedef {Node | string | number | null | undefined | false} Child  nothing is made of null, undefined and false
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>} Attributes
 *   a function under `onclick` listens to clicks; true is an attribute without a value; false, null and undefined leave it out
 */

/** @param {string} name @param {Attributes} attributes @param {...Child} children @returns {HTMLElement} */
export function element(name, attributes = {}, ...children) {
  return furnished(document.createElement(name), attributes, children);
}

/** The same for SVG. @param {string} name @param {Attributes} attributes @param {...Child} children @returns {SVGElement} */
export function drawing(name, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, name), attributes, children);
}

/** The element with this id, which index.html has. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element #${id}`);
  return found;
}

/** A checkbox with its label. @param {Attributes} attributes @param {...Child} label */
export function tick(attributes, ...label) {
  return element('label', { class: 'tick' }, element('input', { type: 'checkbox', ...attributes }), element('span', {}, ...label));
}

/** Rows of cells → a table's head and body. The first cell of a row is its heading. @param {Child[]} head @param {Child[][]} rows */
export function table(head, rows, attributes = {}) {
  const line = (cells) =>
    element('tr', {}, ...cells.map((cell, at) => element(at ? 'td' : 'th', at ? {} : { scope: 'row' }, cell)));
  return element(
    'table',
    attributes,
    element('thead', {}, element('tr', {}, ...head.map((cell) => element('th', { scope: 'col' }, cell)))),
    element('tbody', {}, ...rows.map(line)),
  );
}

/** A box that scrolls sideways, by keyboard too. @param {string} label @param {...Child} children */
export function box(label, ...children) {
  return element('div', { class: 'box', tabindex: 0, role: 'region', 'aria-label': label }, ...children);
}

/** @param {Child[]} children */
export function details(summary, ...children) {
  return element('details', {}, element('summary', {}, summary), ...children);
}

function furnished(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
