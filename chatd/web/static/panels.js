// What stands around the messages: the rooms, who is here, the search, and the dialog to join a room.

import { $, CROSS, el, icon } from './dom.js';
import * as say from './i18n.js';
import { t } from './i18n.js';
import { hue, initial } from './text.js';

const narrow = matchMedia('(max-width: 46rem)');
const medium = matchMedia('(max-width: 64rem)');

// A page of results has 100 messages, or what fits into 256 KiB: one that has fewer than this is the last.
const FULL = 10;

export class RoomList {
  #drawn = '';
  #on;

  constructor(on) {
    this.#on = on;
  }

  show(rooms, current) {
    const drawn = JSON.stringify(rooms.map(({ name, unread, mentions }) => [name, unread, mentions, name === current.name]));
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const focused = document.activeElement?.closest?.('#room-list [data-room]');
    const items = [...rooms].sort((a, b) => say.byName(a.name, b.name)).map((room) => this.#item(room, room === current, rooms.length > 1));
    $('room-list').replaceChildren(...items);
    if (focused) $('room-list').querySelector(`[data-room="${CSS.escape(focused.dataset.room)}"] a`)?.focus();
    const elsewhere = rooms.filter((room) => room !== current).reduce((sum, room) => sum + room.unread, 0);
    $('rooms-open').setAttribute('aria-label', elsewhere ? `${t('rooms')}, ${t('unread', elsewhere)}` : t('rooms'));
    $('elsewhere').hidden = elsewhere === 0;
    $('elsewhere').textContent = elsewhere > 99 ? '99+' : say.number(elsewhere);
  }

  #item(room, current, leavable) {
    const link = el('a', { href: `#${encodeURIComponent(room.name)}` }, el('bdi', { className: 'room-name' }, room.name));
    if (current) link.setAttribute('aria-current', 'page');
    if (room.mentions) link.append(badge(room.mentions, 'mentions'));
    else if (room.unread) link.append(badge(room.unread, 'unread'));
    const item = el('li', { 'data-room': room.name, className: room.unread ? 'unread' : '' }, link);
    if (leavable) {
      const leave = t('leaveRoom', room.name);
      item.append(el('button', { className: 'icon', title: leave, 'aria-label': leave, onclick: () => this.#on.leave(room) }, icon(CROSS)));
    }
    return item;
  }
}

function badge(n, kind) {
  const shown = `${kind === 'mentions' ? '@' : ''}${n > 999 ? '999+' : say.number(n)}`;
  return el('span', { className: `badge ${kind}` },
    el('span', { 'aria-hidden': 'true' }, shown), el('span', { className: 'sr-only' }, ` ${t(kind, n)}`));
}

// The column at the right: members or search; over the messages where the page is not wide.
export class Side {
  shown = null; // 'members', 'search' or null
  #on;

  constructor(on) {
    this.#on = on;
    for (const which of ['members', 'search']) {
      $(`${which}-open`).addEventListener('click', () => (this.shown === which ? this.close() : this.open(which)));
    }
    $('side').querySelector('[data-close]').addEventListener('click', () => this.close());
    if (!medium.matches) this.open('members', false);
    medium.addEventListener('change', () => medium.matches && this.close());
  }

  open(which, byHand = true) {
    this.shown = which;
    $('side').hidden = false;
    for (const each of ['members', 'search']) {
      $(each).hidden = each !== which;
      $(`${each}-open`).setAttribute('aria-expanded', each === which);
    }
    $('side-title').textContent = t(which);
    overlay(medium.matches ? $('side') : null);
    this.#on.opened(which);
    if (byHand) (which === 'search' ? $('words') : $('side').querySelector('[data-close]')).focus();
  }

  get covers() {
    return this.shown !== null && medium.matches;
  }

  close() {
    if (!this.shown) return false;
    const opener = $(`${this.shown}-open`);
    opener.setAttribute('aria-expanded', 'false');
    this.shown = null;
    const focused = $('side').contains(document.activeElement);
    $('side').hidden = true;
    overlay(null);
    if (focused) opener.focus();
    return true;
  }
}

// The list of rooms, which is a drawer where the page is narrow.
export class Drawer {
  constructor() {
    $('rooms-open').addEventListener('click', () => this.open());
    $('rooms').querySelector('[data-close]').addEventListener('click', () => this.close());
    narrow.addEventListener('change', () => this.close());
  }

  open() {
    $('rooms').classList.add('open');
    $('rooms-open').setAttribute('aria-expanded', 'true');
    overlay($('rooms'));
    ($('rooms').querySelector('[aria-current]') ?? $('join-open')).focus();
  }

  close() {
    if (!$('rooms').classList.contains('open')) return false;
    const focused = $('rooms').contains(document.activeElement);
    $('rooms').classList.remove('open');
    $('rooms-open').setAttribute('aria-expanded', 'false');
    overlay(null);
    if (focused) $('rooms-open').focus();
    return true;
  }
}

// What lies under an open drawer can neither be clicked nor reached by keyboard.
function overlay(open) {
  $('chat').classList.toggle('covered', open !== null);
  for (const part of [$('rooms'), $('room'), $('side')]) part.inert = open !== null && part !== open;
}

export function showMembers(room, me) {
  $('count').textContent = say.number(room.count);
  $('members-open').setAttribute('aria-label', t('membersOf', room.count));
  const names = [...room.names].sort(say.byName);
  $('member-list').replaceChildren(...names.map((name) => el('li', {},
    el('span', { className: `monogram ${hue(name)}`, 'aria-hidden': 'true' }, initial(name)),
    el('bdi', {}, name),
    ...(name === me ? [el('span', { className: 'muted' }, t('you'))] : []))));
  $('members-more').hidden = room.next === null;
}

export class Search {
  #on;
  #oldest = null;

  // `on`: find(words, before) gives a page of messages; go(message) shows one where it stands.
  constructor(on) {
    this.#on = on;
    $('search-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.find($('words').value);
    });
    $('results-more').addEventListener('click', () => this.#page());
  }

  find(words) {
    $('words').value = words;
    this.clear();
    if (words.trim()) this.#page();
  }

  clear() {
    this.#oldest = null;
    $('results').replaceChildren();
    $('found').textContent = '';
    $('results-more').hidden = true;
  }

  async #page() {
    const words = $('words').value;
    $('found').textContent = t('searching');
    let found;
    try {
      found = await this.#on.find(words, this.#oldest);
    } catch (error) {
      $('found').textContent = say.complaint(error);
      return;
    }
    if (words !== $('words').value) return;
    $('results').append(...found.map((message) => this.#item(message)));
    this.#oldest = found.at(-1)?.seq ?? this.#oldest;
    const more = found.length >= FULL && this.#oldest > 1;
    $('results-more').hidden = !more;
    $('found').textContent = t('found', $('results').children.length, more);
  }

  #item(message) {
    const at = new Date(message.at);
    return el('li', {}, el('button', { onclick: () => this.#on.go(message) },
      el('span', { className: 'by' },
        el('bdi', { className: `name ${hue(message.name)}` }, message.name), ' ',
        el('time', { dateTime: message.at, title: say.moment(at) }, say.stamp(at))),
      el('span', { className: 'text', dir: 'auto' }, message.text)));
  }
}

export class JoinDialog {
  #on;

  // `on`: rooms() gives all rooms; join(name) enters one.
  constructor(on) {
    this.#on = on;
    $('join-open').addEventListener('click', () => this.open());
    $('join-close').addEventListener('click', () => $('join').close());
    $('join').addEventListener('click', ({ target }) => target === $('join') && $('join').close());
    $('join-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#join($('join-name').value.trim());
    });
  }

  async open() {
    $('join-name').value = '';
    $('all-rooms').replaceChildren();
    $('join').showModal();
    let rooms = [];
    try {
      rooms = await this.#on.rooms();
    } catch {
      // Without the list, a name can be written all the same.
    }
    const items = rooms.map(({ room, count }) => el('li', {}, el('button', { type: 'button', onclick: () => this.#join(room) },
      el('bdi', { className: 'room-name' }, room), el('span', { className: 'muted' }, t('people', count)))));
    $('all-rooms').replaceChildren(...(items.length ? items : [el('li', { className: 'muted' }, t('noRooms'))]));
  }

  #join(name) {
    $('join').close();
    if (name) this.#on.join(name);
  }
}
