// The list of messages: what of the room's window is drawn, and where the reader stands in it.

import { $, el } from './dom.js';
import * as say from './i18n.js';
import { t } from './i18n.js';
import { hue, initial, nodes } from './text.js';

const TOGETHER = 5 * 60_000; // messages of one person stand together when no more time lies between
const SHOWN = 5; // so many names of those who came at once
const NEAR = 40; // pixels from the bottom that still count as being there

export class Log {
  following = true; // the reader is at the bottom, and stays there
  #box = $('log');
  #list = $('messages');
  #unsent = $('outbox');
  #edge = $('edge');
  #on;
  #room = null;
  #mention = null;
  #today = new Date().toDateString();
  #unsentDrawn = '';
  #height = 0;
  #hush = 0;
  #coming = null; // the last line about who came or left

  // `on`: older(), newer() when the reader comes near an end of the window; moved() after any scrolling;
  // again(entry) and discard(entry) for messages that were refused.
  constructor(on) {
    this.#on = on;
    this.#box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(this.#box);
  }

  show(room, mention) {
    this.#room = room;
    this.#mention = mention;
    this.#quietly(() => this.#list.replaceChildren(...this.#draw(this.#room.messages, null)));
  }

  // At midnight, today becomes yesterday.
  newDay() {
    const today = new Date().toDateString();
    if (today === this.#today) return;
    this.#today = today;
    this.#quietly(() => {
      for (const time of this.#box.querySelectorAll('.day time')) time.textContent = say.day(new Date(time.dateTime));
    });
  }

  toBottom() {
    this.following = true;
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  toDivider() {
    const divider = this.#list.querySelector('.divider');
    const { divider: unread, begin } = this.#room;
    if (!divider && (unread === null || unread >= begin)) return this.toBottom();
    if (!divider) {
      this.#box.scrollTop = 0; // what is not read begins further up than the window
      return this.#measure();
    }
    const above = divider.getBoundingClientRect().top - this.#box.getBoundingClientRect().top;
    this.#box.scrollTop += above - this.#box.clientHeight / 4;
    return this.#measure();
  }

  toMessage(seq) {
    const found = this.#item(seq);
    found?.scrollIntoView({ block: 'center' });
    found?.classList.add('found');
    found?.addEventListener('animationend', () => found.classList.remove('found'), { once: true });
    this.#measure();
  }

  scrollBy(pages) {
    this.#box.scrollBy(0, pages * this.#box.clientHeight * 0.8);
  }

  get needsOlder() {
    return this.#box.scrollTop < this.#box.clientHeight;
  }

  get needsNewer() {
    return this.#below() < this.#box.clientHeight;
  }

  // Draws what came to the end of the window. `quiet`: no screen reader need say it.
  added(messages, quiet) {
    this.newDay();
    const before = this.#room.messages[this.#room.messages.length - messages.length - 1] ?? null;
    const add = () => this.#list.append(...this.#draw(messages, before));
    if (quiet) this.#quietly(add);
    else add();
    if (this.following) this.toBottom();
  }

  // The window has changed at either end; what the reader looks at stays where it is.
  reframe() {
    const top = this.#box.getBoundingClientRect().top;
    const anchor = [...this.#list.children].find((item) => item.dataset.seq && item.getBoundingClientRect().bottom > top);
    const bottom = anchor?.getBoundingClientRect().bottom;
    this.#quietly(() => this.#reconcile());
    // Its own top may have changed: a day or a name that stood in it now stands further up.
    const kept = anchor && this.#item(anchor.dataset.seq);
    if (this.following) this.toBottom();
    else if (kept) this.#box.scrollTop += kept.getBoundingClientRect().bottom - bottom;
  }

  edge(text) {
    this.#edge.textContent = text;
  }

  // Who came and left, one line between two messages.
  came(what, names, others) {
    const { line, was } = this.#coming ?? {};
    const same = line === this.#list.lastElementChild && was.what === what;
    const all = same ? [...new Set([...was.names, ...names])] : names;
    const rest = same ? was.others + others : others;
    const shown = all.slice(0, SHOWN);
    if (same) line.remove();
    const now = el('li', { className: 'notice' }, el('span', {}, t(what, shown, rest + all.length - shown.length)));
    this.#coming = { line: now, was: { what, names: all, others: rest } };
    this.#list.append(now);
    if (this.following) this.toBottom();
  }

  // What is not kept yet looks as it will, and says beside it that it waits.
  unsent(entries) {
    let before = this.#room.messages.at(-1) ?? null;
    const drawn = JSON.stringify([this.#room.name, before, entries]);
    if (drawn === this.#unsentDrawn) return; // one of its buttons may have the focus
    this.#unsentDrawn = drawn;
    const items = entries.map((entry) => {
      const message = { name: this.#room.me, at: new Date(entry.at).toISOString(), text: entry.text, action: entry.action };
      const item = this.#message(message, before);
      before = message;
      return this.#waiting(item, entry);
    });
    this.#unsent.replaceChildren(...items);
    this.#unsent.hidden = items.length === 0;
    if (this.following) this.toBottom();
  }

  // While a page is put in, a screen reader has nothing to say; it reads the region's state a moment later.
  #quietly(change) {
    this.#box.setAttribute('aria-live', 'off');
    change();
    clearTimeout(this.#hush);
    this.#hush = setTimeout(() => this.#box.removeAttribute('aria-live'), 500);
  }

  #item(seq) {
    return this.#list.querySelector(`[data-seq="${seq}"]`);
  }

  #draw(messages, before) {
    return messages.map((message) => {
      const item = this.#message(message, before);
      before = message;
      return item;
    });
  }

  // Items whose message still stands behind the same one are not touched: one of them may have the focus.
  #reconcile() {
    const drawn = new Map([...this.#list.children].map((item) => [item.dataset.key, item]));
    let before = null;
    const items = this.#room.messages.map((message) => {
      const item = drawn.get(this.#key(message, before)) ?? this.#message(message, before);
      before = message;
      return item;
    });
    const wanted = new Set(items);
    let gone = false; // a notice goes with the message before it
    for (const item of [...this.#list.children]) {
      if (item.dataset.seq) gone = !wanted.has(item);
      if (gone) item.remove();
    }
    let at = this.#list.firstChild;
    for (const item of items) {
      while (at && !at.dataset.seq) at = at.nextSibling;
      if (item === at) at = at.nextSibling;
      else this.#list.insertBefore(item, at);
    }
  }

  #key(message, before) {
    return `${before?.seq ?? ''} ${message.seq}`;
  }

  #message(message, before) {
    const item = el('li', { 'data-seq': message.seq ?? '', 'data-key': this.#key(message, before) });
    if (message.gap) {
      item.className = 'notice';
      item.append(el('span', {}, t('gap', message.first, message.last)));
      return item;
    }
    const at = new Date(message.at);
    const newDay = !before || before.gap || new Date(before.at).toDateString() !== at.toDateString();
    const divided = this.#room.divider !== null && message.seq === this.#room.divider;
    const together = !newDay && !divided && !message.action && !before.action
      && before.name === message.name && at - new Date(before.at) < TOGETHER;
    item.className = together ? 'message' : 'message first';
    if (newDay) item.append(el('p', { className: 'day' }, el('time', { dateTime: message.at }, say.day(at))));
    if (divided) item.append(el('p', { className: 'divider' }, el('span', {}, t('newMessages'))));
    item.append(this.#entry(message, at));
    if (message.name !== this.#room.me && item.querySelector('mark')) item.classList.add('mention');
    return item;
  }

  #entry({ seq, name, at: stamp, text, action }, at) {
    const by = el('bdi', { className: `name ${hue(name)}` }, name);
    const time = el('time', { dateTime: stamp, title: `${say.moment(at)}${seq ? ` · #${seq}` : ''}` }, say.time(at));
    const body = nodes(text, name === this.#room.me ? null : this.#mention);
    if (action) {
      const star = el('span', { className: 'monogram', 'aria-hidden': 'true' }, '✳');
      return el('div', { className: 'entry action' }, star,
        el('p', { className: 'text' }, by, ' ', el('span', { dir: 'auto' }, ...body), ' ', time));
    }
    return el('div', { className: 'entry' },
      el('span', { className: `monogram ${hue(name)}`, 'aria-hidden': 'true' }, initial(name)),
      el('p', { className: 'by' }, by, ' ', time),
      el('p', { className: 'text', dir: 'auto' }, ...body));
  }

  #waiting(item, entry) {
    const { refused, state } = entry;
    item.classList.add('unsent', state);
    item.dataset.id = entry.id;
    const line = el('p', { className: 'state' }, refused ? t('refused', say.complaint(refused)) : t(state));
    if (refused) {
      const button = (key, act) => el('button', { className: 'quiet', onclick: () => act(entry) }, t(key));
      line.append(' ', button('again', this.#on.again), ' ', button('discard', this.#on.discard));
    }
    item.querySelector('.entry').append(line);
    return item;
  }

  #below() {
    return this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
  }

  #measure() {
    this.following = this.#room.atEnd && this.#below() < NEAR;
  }

  #resized() {
    this.#height = this.#box.clientHeight;
    if (this.following) this.toBottom();
  }

  #scrolled() {
    if (!this.#room) return;
    // In a frame that brings both, the scroll event comes before the new size is told: the reader has not moved.
    if (!this.following || this.#box.clientHeight === this.#height) this.#measure();
    if (this.needsOlder) this.#on.older();
    if (this.needsNewer) this.#on.newer();
    this.#on.moved();
  }
}
