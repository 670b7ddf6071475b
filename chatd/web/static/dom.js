// Making elements. Text goes in as text: nothing here, or elsewhere in the page, reads HTML.

export const $ = (id) => document.getElementById(id);

// `into` takes properties of the element, and attributes under their names with a dash (aria-label, data-seq).
export function el(tag, into = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(into)) {
    if (key.includes('-')) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

const SVG = 'http://www.w3.org/2000/svg';

export function icon(path) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const drawn = svg.appendChild(document.createElementNS(SVG, 'path'));
  drawn.setAttribute('d', path);
  return svg;
}

export const CROSS = 'M6 6l12 12M18 6L6 18';
