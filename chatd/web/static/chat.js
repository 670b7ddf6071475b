// The chat without its looks: what comes over the connection goes into rooms and outbox, and the view is told.

import { PAGE, Room } from './room.js';
import { Session } from './session.js';
import { Connection } from './socket.js';
import { mentionOf, mentions } from './text.js';

export const LOBBY = 'lobby';
const FRESH = -50; // of a room that is new to us we ask for so many messages
const FAR = 2_000; // so many missed ones do not come one by one: they are there for whoever scrolls up
const WHILE_READING = 2_000; // a window that is not looked at its end grows to so many messages
const TURN = 50; // messages are drawn no more often
const ADOPT = 15_000; // after so long, what another tab has not sent is sent by this one

// What it asks of a view is in app.js.
export class Chat {
  rooms = new Map();
  shown = null; // the room that the view shows
  mention = null;
  session;
  #view;
  #connection;
  #password;
  #helloLog = null; // the database that the numbers in our hello belong to
  #asked = new Map(); // room → the `after` that we asked for last
  #asking = new Map(); // id → the promise of its answer
  #requests = 0;
  #fresh = []; // of the shown room, what came and is not drawn yet
  #drawing = 0;
  #drawnAt = 0;
  #sent = new Set(); // ids that went over this connection
  #waiting = new Set(); // ids of which the server says that they wait
  #landing = new Map(); // what is kept and has not come as a message yet
  #retry = 0; // when some were refused for now: the timer after which they are sent again
  #tries = 0;
  #farewell = null;
  #adopting = 0;

  constructor(address, password, view) {
    this.#view = view;
    this.#password = password;
    this.session = new Session({
      signedIn: () => this.#connection.ready || this.resume(),
      signedOut: () => this.#out(null),
      outbox: () => this.#outboxElsewhere(),
      room: (name, read) => this.#roomElsewhere(name, read),
      left: (name) => this.#forget(name),
    });
    this.#connection = new Connection(address, {
      opened: () => this.#hello(),
      received: (messages) => this.#received(messages),
      closed: () => this.#closed(),
    });
  }

  // Coming in and going out

  start() {
    if (this.session.token) this.resume();
    else this.#view.entrance(null);
  }

  resume() {
    this.#addRooms();
    this.#view.inside();
    this.#view.line('connecting');
    this.#connection.connect();
  }

  enter(name, password) {
    this.session.name = name;
    this.#password = password || this.#password;
    this.#connection.connect();
  }

  tryNow() {
    this.#connection.connect();
  }

  signOut() {
    this.#connection.send({ type: 'bye' });
    this.session.end();
    this.#out(null);
  }

  get password() {
    return this.#password;
  }

  #out(error) {
    this.#connection.close();
    clearTimeout(this.#retry);
    this.#retry = this.#tries = 0;
    if (error === null) {
      this.#password = undefined;
      this.rooms.clear();
      this.shown = null;
    }
    this.#view.entrance(error);
  }

  #addRooms() {
    for (const [name, read] of this.session.rooms) if (!this.rooms.has(name)) this.rooms.set(name, new Room(name, read));
    if (this.rooms.size === 0) this.rooms.set(LOBBY, new Room(LOBBY));
    this.mention = mentionOf(this.session.name);
  }

  #hello() {
    this.#addRooms();
    const { name, token, log } = this.session;
    this.#helloLog = log;
    this.#asked = new Map([...this.rooms.values()].map((room) => [room.name, room.cursor ?? FRESH]));
    this.#connection.send({
      type: 'hello', id: 'hello', name, token: token ?? undefined, password: this.#password, rooms: Object.fromEntries(this.#asked),
    });
  }

  #helloRefused(error) {
    // Two tabs may have come with a token that is no longer known: the first one has got a new one.
    if (error.code === 'name_in_use' && this.session.renew()) this.#hello();
    else if (error.retry) this.#connection.lost();
    else this.#out(error);
  }

  #welcome(message) {
    const another = this.#helloLog !== null && this.#helloLog !== message.log;
    this.#connection.welcomed();
    this.#farewell = null;
    this.session.begin(message);
    this.#addRooms();
    this.#view.inside(message);
    this.#view.line('online');
    if (another) for (const room of this.rooms.values()) this.#startAnew(room).catch(() => {});
    this.#submitAll();
    this.#view.outbox();
  }

  // Another database: our numbers mean nothing in it.
  async #startAnew(room) {
    room.forget();
    await this.#ask({ type: 'join', room: room.name, after: FRESH });
    this.#view.restarted(room);
  }

  // Requests and their answers

  #ask(request) {
    const id = `r${(this.#requests += 1)}`;
    return new Promise((resolve, reject) => {
      if (!this.#connection.ready) return reject({ code: 'closed' });
      if (request.type === 'join') this.#asked.set(request.room, request.after);
      this.#asking.set(id, { resolve, reject });
      return this.#connection.send({ ...request, id });
    });
  }

  #received(messages) {
    for (const message of messages) {
      const asker = this.#asking.get(message.id);
      this.#asking.delete(message.id);
      if (message.type === 'room') this.#entered(message, Boolean(asker));
      else if (!asker) this.#said(message);
      if (message.type === 'error') asker?.reject(message);
      else asker?.resolve(message);
    }
    // What comes alone is drawn at once; of a flood, what came meanwhile.
    const wait = this.#drawnAt + TURN - Date.now();
    if (wait <= 0) this.#draw();
    else this.#drawing ||= setTimeout(() => this.#draw(), wait);
  }

  #said(message) {
    switch (message.type) {
      case 'welcome': return this.#welcome(message);
      case 'message': return this.#arrived(message);
      case 'gap': return this.#arrived({ ...message, gap: true, seq: message.last });
      case 'kept': return this.#kept(message);
      case 'waiting': return this.#waiting.add(message.id);
      case 'error': return this.#refused(message);
      case 'joined':
      case 'left':
      case 'presence': return this.#presence(message);
      case 'goodbye': return this.#goodbye(message);
      default: return undefined; // of a later protocol
    }
  }

  #goodbye({ reason, retry_after: seconds }) {
    this.#farewell = reason;
    if (seconds !== undefined) this.#connection.hold(seconds);
  }

  #closed() {
    for (const { reject } of this.#asking.values()) reject({ code: 'closed' });
    this.#asking.clear();
    this.#sent.clear();
    this.#waiting.clear();
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#view.line(this.#farewell === null ? 'lost' : 'farewell', this.#farewell);
    this.#view.outbox();
  }

  // What happens in rooms

  #entered(message, byRequest) {
    const room = this.rooms.get(message.room) ?? (byRequest ? new Room(message.room) : null);
    if (!room) return;
    this.rooms.set(room.name, room);
    this.#draw();
    const after = this.#asked.get(room.name) ?? FRESH;
    if (after >= 0 && message.seq - after > FAR) this.#ask({ type: 'join', room: room.name, after: FRESH }).catch(() => {});
    room.entered(message, after);
    if (!this.session.rooms.has(room.name)) this.session.setRead(room.name, room.read);
    this.#view.reframed(room);
    this.#view.room(room);
    if (message.reset) this.#view.restarted(room);
  }

  #arrived(message) {
    const room = this.rooms.get(message.room);
    if (!room) return;
    const shown = room === this.shown;
    const drawn = room.receive(message, {
      own: message.name === this.session.name,
      mention: !message.gap && mentions(message.text, this.mention),
      limit: shown && !this.#view.following ? WHILE_READING : Infinity,
      seen: shown && this.#view.attentive,
    });
    if (!shown) room.trim();
    else if (drawn) this.#fresh.push(message);
  }

  #draw() {
    clearTimeout(this.#drawing);
    this.#drawing = 0;
    const messages = this.#fresh;
    this.#fresh = [];
    for (const [id, { room, seq }] of this.#landing) if (seq <= this.rooms.get(room)?.cursor) this.#landing.delete(id);
    if (messages.length) this.#view.added(this.shown, messages);
    this.#view.outbox();
    this.#view.rooms();
    this.#drawnAt = Date.now();
  }

  #presence(message) {
    const room = this.rooms.get(message.room);
    if (!room) return;
    this.#draw();
    room[message.type](message);
    const names = message.names?.filter((name) => name !== this.session.name) ?? [];
    if (names.length) this.#view.came(room, message.type, names, message.total - message.names.length);
    this.#view.room(room);
  }

  // The view turns to this room.
  show(room) {
    this.#draw();
    this.shown = room;
    room.me = this.session.name;
  }

  // The reader has seen all there is.
  read(room) {
    if (room.cursor === null || room.read === room.cursor) return;
    room.readUpTo(room.cursor);
    this.session.setRead(room.name, room.read);
    this.#view.rooms();
  }

  async join(name) {
    const bare = name.replace(/^#/, '');
    if (this.rooms.has(bare)) return this.rooms.get(bare);
    const { room } = await this.#ask({ type: 'join', room: bare, after: FRESH });
    return this.rooms.get(room);
  }

  leave(room) {
    if (this.rooms.size === 1) return;
    this.session.leave(room.name);
    this.#forget(room.name);
  }

  #forget(name) {
    const room = this.rooms.get(name);
    if (!room || this.rooms.size === 1) return;
    this.#connection.send({ type: 'leave', room: name });
    this.rooms.delete(name);
    this.#asked.delete(name);
    this.#view.left(room);
  }

  #roomElsewhere(name, read) {
    const room = this.rooms.get(name);
    if (room) room.readUpTo(Math.max(read, room.read));
    else if (this.#connection.ready) {
      this.rooms.set(name, new Room(name, read));
      this.#ask({ type: 'join', room: name, after: read }).catch(() => {});
    }
    this.#view.rooms();
  }

  // Pages of the log. Meanwhile the window may have moved: then the page is not put in.

  async older(room) {
    if (room.loading || room.cursor === null || room.atBeginning) return;
    const before = room.begin;
    await this.#page(room, { before }, (page) => {
      if (room.begin !== before) return;
      if (page.length === 0) room.first = before;
      room.prepend(page);
    });
  }

  async newer(room) {
    if (room.loading || room.atEnd) return;
    const after = room.end;
    await this.#page(room, { after }, (page) => room.end === after && room.append(page));
  }

  async latest(room) {
    await room.loading?.catch(() => {});
    if (room.atEnd) return;
    await this.#page(room, {}, (page) => room.replace(page));
  }

  async around(room, seq) {
    await room.loading?.catch(() => {});
    if (room.messages.some((message) => message.seq === seq)) return;
    await this.#page(room, { before: seq + PAGE / 2 }, (page) => room.replace(page));
  }

  async #page(room, where, put) {
    room.loading = this.#ask({ type: 'history', room: room.name, limit: PAGE, ...where });
    try {
      const { messages } = await room.loading;
      this.#draw();
      put(messages);
    } finally {
      room.loading = null;
    }
    this.#view.reframed(room);
  }

  async find(room, words, before) {
    return (await this.#ask({ type: 'search', room: room.name, words, before: before ?? undefined })).messages;
  }

  async allRooms() {
    return (await this.#ask({ type: 'rooms' })).rooms;
  }

  async members(room, first) {
    const after = first ? undefined : room.next;
    room.listed(await this.#ask({ type: 'members', room: room.name, after }), first);
    this.#view.room(room);
  }

  // What we say

  say(room, text, action) {
    this.#submit(this.session.keep({ room: room.name, text, action: action || undefined }));
    this.#view.outbox();
  }

  // What is not shown as a message of the room yet, each with the word for why.
  unsent(room) {
    const entries = [...this.#landing.values(), ...this.session.outbox.values()].filter((entry) => entry.room === room.name);
    return entries.sort((a, b) => a.at - b.at).map((entry) => ({ ...entry, state: this.#state(entry) }));
  }

  #state(entry) {
    if (entry.refused) return 'refused';
    if (!this.#connection.ready) return 'unsent';
    return this.#waiting.has(entry.id) ? 'waiting' : 'sending';
  }

  #submit(entry) {
    // What is said while others wait to be sent again goes with them, so that all keep their order.
    if (!this.#connection.ready || this.#retry) return;
    this.#sent.add(entry.id);
    const { id, room, text, action } = entry;
    this.#connection.send({ type: 'say', id, room, text, action });
  }

  #submitAll() {
    for (const entry of this.session.unsent()) if (!this.#sent.has(entry.id)) this.#submit(entry);
  }

  #kept({ room: name, seq, id }) {
    const entry = this.session.outbox.get(id);
    if (!entry) return;
    this.session.forget(id);
    this.#tries = 0;
    if (seq > (this.rooms.get(name)?.cursor ?? Infinity)) this.#landing.set(id, { ...entry, seq });
  }

  #refused(error) {
    if (error.id === 'hello' && !this.#connection.ready) return this.#helloRefused(error);
    const entry = this.session.outbox.get(error.id);
    if (!entry) return this.#view.complaint(error);
    if (!error.retry) {
      this.session.refuse(entry.id, error);
      return this.#view.refused(error);
    }
    this.#sent.delete(entry.id);
    if (this.#retry) return undefined;
    const wait = (0.5 + Math.random() / 2) * Math.min(10_000, 1_000 * 2 ** this.#tries);
    this.#tries += 1;
    this.#retry = setTimeout(() => {
      this.#retry = 0;
      this.#submitAll();
    }, wait);
    return undefined;
  }

  // The tab that wrote it sends it; unless it was closed before it could.
  #outboxElsewhere() {
    this.#view.outbox();
    clearTimeout(this.#adopting);
    this.#adopting = setTimeout(() => {
      this.#submitAll();
    }, ADOPT);
  }
}
