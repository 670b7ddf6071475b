// The box to write in. A line is a message; a pasted text is a message a line.

import { $ } from './dom.js';
import { t } from './i18n.js';

const LONGEST = 4_000;
const touch = matchMedia('(pointer: coarse)');

const shape = (line) => {
  const [, command, rest] = /^\/(?!\/)(\S*)\s*(.*)$/su.exec(line) ?? [];
  return command === undefined ? { say: line.replace(/^\/\//, '/') } : { command, rest };
};

export class Composer {
  #box = $('box');
  #room = null;
  #on;

  // `on`: say(text, action), join(room), leave(), search(words), scroll(pages), typed().
  constructor(on) {
    this.#on = on;
    this.#box.addEventListener('input', () => this.#typed());
    this.#box.addEventListener('keydown', (event) => this.#key(event));
    $('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
      this.#box.focus();
    });
  }

  // What is written for a room stays with it, in this tab, over a reload too.
  show(room) {
    this.#room = room.name;
    this.#box.placeholder = t('writeTo', room.name);
    this.#box.setAttribute('aria-label', t('writeTo', room.name));
    this.#put(sessionStored(`draft ${room.name}`) ?? '');
  }

  // Where the focus brings a keyboard over half of the screen, it is for the reader to ask for it.
  focus() {
    if (!touch.matches) this.#box.focus();
  }

  add(text) {
    this.#put(this.#box.value ? `${this.#box.value}\n${text}` : text);
    this.#box.focus();
  }

  hint(text) {
    $('hint').textContent = text;
  }

  #put(text) {
    this.#box.value = text;
    this.#typed();
  }

  #typed() {
    this.hint('');
    sessionStore(`draft ${this.#room}`, this.#box.value);
    this.#box.style.height = 'auto';
    this.#box.style.height = `${this.#box.scrollHeight}px`;
  }

  #key(event) {
    const scroll = { PageUp: -1, PageDown: 1 }[event.key];
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (scroll && !event.shiftKey) {
      event.preventDefault();
      this.#on.scroll(scroll);
    }
  }

  #submit() {
    const lines = this.#box.value.split(/[\r\n]+/).map((line) => line.trimEnd()).filter(Boolean);
    const wrong = lines.map((line) => this.#wrong(shape(line))).find(Boolean);
    if (wrong) return this.hint(wrong);
    this.#put('');
    for (const line of lines) this.#do(shape(line));
  }

  #wrong({ say, command, rest }) {
    const text = say ?? rest;
    const length = [...text].length;
    if (length > LONGEST) return t('tooLong', length);
    if (command !== undefined && !['me', 'join', 'leave', 'search'].includes(command)) return t('unknownCommand', `/${command}`);
    return null;
  }

  #do({ say, command, rest }) {
    if (say) this.#on.say(say, false);
    if (command === 'me' && rest) this.#on.say(rest, true);
    if (command === 'join' && rest) this.#on.join(rest);
    if (command === 'leave') this.#on.leave();
    if (command === 'search') this.#on.search(rest);
  }
}

const HERE = `chatd ${new URL('.', location.href).pathname} `;

// Whoever comes in next, in this tab, finds nothing of what was written here.
export function sessionForget() {
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(HERE)) sessionStorage.removeItem(key);
  } catch {
    // Nothing was stored.
  }
}

export function sessionStored(key) {
  try {
    return sessionStorage.getItem(HERE + key);
  } catch {
    return null;
  }
}

export function sessionStore(key, value) {
  try {
    if (value) sessionStorage.setItem(HERE + key, value);
    else sessionStorage.removeItem(HERE + key);
  } catch {
    // Then a draft does not outlive the page; a message that is sent is another matter (session.js).
  }
}
