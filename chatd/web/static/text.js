// What a message's text holds: links and mentions. And the colour and the letter of a name.

import { el } from './dom.js';

const LINK = /\bhttps?:\/\/[^\s<>"“”«»\u{fffd}]+/giu;
const TRAILING = /[.,:;!?…'’*_~]$/u;
const PAIRS = { ')': '(', ']': '[', '}': '{' };

const count = (text, letter) => text.split(letter).length - 1;

// A full stop or a bracket behind an address belongs to the sentence, unless the address opened the bracket.
function trimmed(address) {
  for (;;) {
    const last = address.at(-1);
    const closes = PAIRS[last] && count(address, last) > count(address, PAIRS[last]);
    if (!closes && !TRAILING.test(address)) return address;
    address = address.slice(0, -1);
  }
}

function link(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return address;
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return address;
  // The title has the host as it is looked up, so that look-alike letters show.
  return el('a', { href: url.href, title: url.href, target: '_blank', rel: 'noopener noreferrer' }, address);
}

// Finds a name where it stands as a word of its own, with or without an @.
export function mentionOf(name) {
  const escaped = name.normalize('NFC').replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
  const before = '(?<![\\p{L}\\p{M}\\p{N}_]|[\\p{L}\\p{N}][-.])';
  const behind = '(?![\\p{L}\\p{M}\\p{N}_]|[-.][\\p{L}\\p{N}])';
  return new RegExp(`${before}@?${escaped}${behind}`, 'giu');
}

function* split(text, pattern, make) {
  let at = 0;
  for (const { 0: found, index } of text.matchAll(pattern)) {
    const part = pattern === LINK ? trimmed(found) : found;
    if (index > at) yield text.slice(at, index);
    yield make(part);
    at = index + part.length;
  }
  if (at < text.length) yield text.slice(at);
}

// The text as nodes.
export function nodes(text, mention) {
  const mark = (found) => el('mark', {}, found);
  return [...split(text.normalize('NFC'), LINK, link)].flatMap((part) =>
    typeof part === 'string' && mention ? [...split(part, mention, mark)] : [part],
  );
}

export const mentions = (text, mention) => text.normalize('NFC').search(mention) >= 0;

const HUES = 12;

export function hue(name) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 0x01000193);
  return `hue-${((hash ^ (hash >>> 15)) >>> 0) % HUES}`;
}

const graphemes = new Intl.Segmenter();

export const initial = (name) => graphemes.segment(name)[Symbol.iterator]().next().value.segment.toLocaleUpperCase();
