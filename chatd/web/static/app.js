// The page: shows the chat, and passes on what the reader does.

import { Chat, LOBBY } from './chat.js';
import { Composer, sessionForget, sessionStore, sessionStored } from './composer.js';
import { $ } from './dom.js';
import * as say from './i18n.js';
import { t } from './i18n.js';
import { Log } from './log.js';
import { Drawer, JoinDialog, RoomList, Search, showMembers, Side } from './panels.js';

const WINDOW = 1_000; // messages that stay drawn while new ones come
const CALM = 700; // a loss that is over sooner than this is not worth a word
const MINUTE = 60_000;
const LISTING = 2_000; // the list of members is fetched no more often

say.translate(document);

const address = new URL('ws', location.href);
address.protocol = address.protocol.replace('http', 'ws');
address.hash = '';

let current = null; // the room that is shown
let goal = wanted(); // the room that the address names, until we are in it

// What the chat tells its view.
const view = {
  get following() {
    return log.following;
  },
  get attentive() {
    return log.following && !document.hidden && document.hasFocus();
  },
  entrance,
  inside,
  line,
  complaint: (error) => composer.hint(say.complaint(error)),
  // The message may be in another room, and what stands beside it is not read out.
  refused: (error) => composer.hint(t('refused', say.complaint(error))),
  rooms: showRooms,
  room: showRoom,
  added,
  reframed(room) {
    if (room !== current) return;
    log.reframe();
    showEdge();
    seen();
    fill();
  },
  came(room, what, names, others) {
    if (room === current && room.atEnd) log.came(what, names, others);
  },
  restarted: () => showLine('reset'),
  left(room) {
    if (room === current) open(chat.rooms.get(LOBBY) ?? chat.rooms.values().next().value);
    showRooms();
  },
  outbox() {
    if (current) log.unsent(chat.unsent(current));
  },
};

const chat = new Chat(address, sessionStored('password') ?? undefined, view);
const log = new Log({ older, newer, moved: seen, again, discard });
const drawer = new Drawer();
const side = new Side({ opened: () => current && showRoom(current) });
const roomList = new RoomList({ leave: (room) => chat.leave(room) });
const search = new Search({ find: (words, before) => chat.find(current, words, before), go });
const composer = new Composer({
  say: write,
  join,
  leave: () => chat.leave(current),
  search(words) {
    side.open('search');
    search.find(words);
  },
  scroll: (pages) => log.scrollBy(pages),
});
new JoinDialog({ rooms: () => chat.allRooms(), join });

// The entrance

function entrance(error) {
  current = null;
  if (!error) {
    sessionForget();
    $('password').value = '';
  }
  $('chat').hidden = true;
  $('entrance').hidden = false;
  document.title = 'chatd';
  const password = error?.code === 'wrong_password';
  if (password) $('password-field').hidden = false;
  $('name').value ||= chat.session.name ?? '';
  $('enter-error').textContent = password && !chat.password ? t('passwordWanted') : error ? say.complaint(error) : '';
  busy(false);
  (password ? $('password') : $('name')).focus();
}

function busy(is) {
  const button = $('enter').querySelector('button');
  button.disabled = is;
  button.textContent = t(is ? 'entering' : 'enter');
}

$('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  $('enter-error').textContent = '';
  busy(true);
  chat.enter($('name').value.trim(), $('password').value);
});

// `message`: the server's welcome, where it has come.
function inside(message) {
  const { name, stored } = chat.session;
  for (const room of chat.rooms.values()) room.me = name;
  $('me').replaceChildren(name);
  $('entrance').hidden = true;
  $('chat').hidden = false;
  if (!current) {
    const { rooms } = chat;
    open(rooms.get(goal) ?? rooms.get(sessionStored('room')) ?? rooms.get(LOBBY) ?? rooms.values().next().value);
    composer.focus();
  }
  if (!message) return;
  sessionStore('password', chat.password);
  if (goal && !chat.rooms.has(goal)) join(goal);
  goal = '';
  showMotd(message.motd);
  if (!stored) composer.hint(t('notStored'));
}

$('sign-out').addEventListener('click', () => {
  if (chat.session.unsent().length && !confirm(t('signOutUnsent'))) return;
  history.replaceState(null, '', location.pathname);
  chat.signOut();
});

function showMotd(text) {
  $('motd').hidden = !text || text === sessionStored('motd');
  $('motd').firstElementChild.textContent = text ?? '';
}

$('motd').addEventListener('click', ({ target }) => {
  if (!target.closest('button')) return;
  sessionStore('motd', $('motd').firstElementChild.textContent);
  $('motd').hidden = true;
  composer.focus();
});

// The connection

const SAID = { back: 3_000, reset: 15_000 }; // what is over, and for how long it is still said
let lineState = 'online';
let calm = 0;

function line(state, reason) {
  clearTimeout(calm);
  if (state === 'online') return showLine(lineState === 'lost' || lineState === 'farewell' ? 'back' : 'online');
  if (!$('entrance').hidden) $('enter-error').textContent = reason ? t('farewell', reason) : t('unreachable');
  calm = setTimeout(showLine, CALM, state, reason);
}

function showLine(state, reason) {
  clearTimeout(calm);
  lineState = state;
  $('line').dataset.state = $('me').dataset.state = state;
  $('line-text').textContent = state === 'online' ? '' : t(state === 'lost' && !navigator.onLine ? 'offline' : state, reason);
  $('line-now').hidden = state === 'online' || state in SAID;
  if (state in SAID) calm = setTimeout(showLine, SAID[state], 'online');
}

$('line-now').addEventListener('click', () => {
  chat.tryNow();
  composer.focus();
});

// The room

function wanted() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

function open(room) {
  if (current) current.divider = null;
  chat.show(room);
  current = room;
  sessionStore('room', room.name);
  const hash = `#${encodeURIComponent(room.name)}`;
  if (location.hash !== hash) history.replaceState(null, '', hash);
  drawer.close();
  search.clear();
  composer.show(room);
  log.show(room, chat.mention);
  view.outbox();
  if (room.unread) log.toDivider();
  else log.toBottom();
  showRoom(room);
  showEdge();
  seen();
  fill();
}

async function join(name) {
  try {
    open(await chat.join(name));
    composer.focus();
  } catch (error) {
    composer.hint(say.complaint(error));
  }
}

$('room-list').addEventListener('click', ({ target }) => target.closest('a[aria-current]') && drawer.close());

addEventListener('hashchange', () => {
  if (current && wanted() && wanted() !== current.name) join(wanted());
});

function showRooms() {
  if (!current) return;
  const rooms = [...chat.rooms.values()];
  roomList.show(rooms, current);
  showLatest();
  const mentions = rooms.reduce((sum, room) => sum + room.mentions, 0);
  const news = rooms.some((room) => room.unread) ? '• ' : '';
  document.title = `${mentions ? `(${mentions}) ` : news}#${current.name} · chatd`;
}

let listing = 0;

function showRoom(room) {
  if (room !== current) return;
  $('room-name').replaceChildren(room.name);
  showMembers(room, chat.session.name);
  if (side.shown !== 'members' || !room.stale || room.cursor === null || listing) return;
  const list = () => {
    listing = setTimeout(() => {
      listing = 0;
      showRoom(current);
    }, LISTING);
  };
  chat.members(room, true).then(list, list);
  listing = -1;
}

$('members-more').addEventListener('click', () => chat.members(current, false).catch(view.complaint));

// The messages

function added(room, messages) {
  if (room !== current) return;
  if (log.following && room.messages.length > 1.5 * WINDOW) {
    room.trim(WINDOW);
    log.reframe();
  } else log.added(messages, messages.length > 20);
  seen();
}

function seen() {
  if (current && view.attentive) chat.read(current);
  showLatest();
}

function showLatest() {
  const away = current && !log.following;
  $('latest').hidden = !away;
  if (away) $('latest').firstElementChild.textContent = t(current.unread ? 'newCount' : 'toLatest', current.unread);
}

$('latest').addEventListener('click', toLatest);

async function toLatest() {
  try {
    await chat.latest(current);
    log.toBottom();
    seen();
  } catch (error) {
    view.complaint(error);
  }
}

function showEdge(failed = false) {
  const { atBeginning, first, cursor } = current;
  if (cursor === null || failed) log.edge(failed ? t('failed') : '');
  else log.edge(atBeginning ? t(first > 1 ? 'removed' : 'beginning') : t('loading'));
}

function older() {
  chat.older(current).catch(() => current && showEdge(true));
}

function newer() {
  chat.newer(current).catch(() => current && showEdge(true));
}

// The window must reach over what can be seen.
function fill() {
  if (log.needsOlder) older();
}

async function go(message) {
  const room = chat.rooms.get(message.room);
  try {
    await chat.around(room, message.seq);
    if (room !== current) open(room);
    log.toMessage(message.seq);
    if (side.covers) side.close();
  } catch (error) {
    view.complaint(error);
  }
}

// Writing

function write(text, action) {
  if (!current.atEnd) toLatest();
  current.divider = null;
  chat.say(current, text, action);
  log.toBottom();
  if (!chat.session.stored) composer.hint(t('notStored'));
}

function discard(entry) {
  chat.session.forget(entry.id);
  view.outbox();
  composer.focus();
}

function again(entry) {
  discard(entry);
  composer.add(entry.text);
}

// The keyboard

addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && current && !$('join').open && !(drawer.close() || side.close())) composer.focus();
  if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown') && current) {
    event.preventDefault();
    const rooms = [...chat.rooms.values()].sort((a, b) => say.byName(a.name, b.name));
    open(rooms.at((rooms.indexOf(current) + (event.key === 'ArrowDown' ? 1 : -1)) % rooms.length));
    composer.focus();
  }
});

$('scrim').addEventListener('click', () => drawer.close() || side.close());

addEventListener('focus', seen);
document.addEventListener('visibilitychange', seen);

setInterval(() => log.newDay(), MINUTE);

chat.start();
