// What outlives the page: token, rooms and what was read, and the outbox, in localStorage under the database's id.
//
// All tabs share it. Nothing is read, changed and written back: each room and each unsent message has a key of
// its own, so tabs cannot overwrite each other. Any tab may send any unsent message, because the server stores
// an id once.

const HERE = `chatd ${new URL('.', location.href).pathname} `;

export class Session {
  log = null; // the id of the server's database
  name = null;
  token = null;
  rooms = new Map(); // name → number of the last message that was read
  outbox = new Map(); // id → {id, room, text, action, at, refused?}
  stored = true;
  #lastAt = 0;

  // `on` is told what other tabs did: signedIn(), signedOut(), outbox(), room(name, read), left(name).
  constructor(on) {
    this.log = this.#read('log');
    this.#load();
    addEventListener('storage', (event) => this.#changed(event, on));
  }

  // Takes what `welcome` brought. Returns whether the database is another one than before.
  begin({ log, name, token }) {
    const other = this.log !== null && this.log !== log;
    const orphans = other ? [...this.outbox.values()] : [];
    if (other) this.#wipe();
    this.log = log;
    this.name = name;
    this.token = token;
    this.#write(`${log} session`, { name, token });
    this.#write('log', log);
    for (const entry of orphans) this.refuse(this.#keep(entry).id, { code: 'another_log' });
    return other;
  }

  // Whether another tab has got another token since this one read it.
  renew() {
    const { token } = this.#read(`${this.log} session`) ?? {};
    const renewed = Boolean(token) && token !== this.token;
    if (renewed) this.#load();
    return renewed;
  }

  end() {
    this.#wipe();
    this.#remove('log');
    this.log = this.token = null;
  }

  keep(message) {
    this.#lastAt = Math.max(Date.now(), this.#lastAt + 1);
    return this.#keep({ ...message, id: randomId(), at: this.#lastAt });
  }

  // Unsent messages in the order in which they were written.
  unsent() {
    return [...this.outbox.values()].filter((entry) => !entry.refused).sort((a, b) => a.at - b.at);
  }

  refuse(id, why) {
    const entry = this.outbox.get(id);
    if (entry) this.#keep({ ...entry, refused: why });
  }

  forget(id) {
    this.outbox.delete(id);
    this.#remove(`${this.log} out ${id}`);
  }

  setRead(room, seq) {
    this.rooms.set(room, seq);
    this.#write(`${this.log} room ${room}`, seq);
  }

  leave(room) {
    this.rooms.delete(room);
    this.#remove(`${this.log} room ${room}`);
  }

  #keep(entry) {
    this.outbox.set(entry.id, entry);
    this.#write(`${this.log} out ${entry.id}`, entry);
    return entry;
  }

  #load() {
    ({ name: this.name, token: this.token } = this.#read(`${this.log} session`) ?? { name: null, token: null });
    for (const [key, value] of this.#entries()) {
      const [kind, what] = key.split(' ');
      if (kind === 'room') this.rooms.set(what, value);
      if (kind === 'out') this.outbox.set(what, value);
    }
  }

  #changed({ key, newValue }, on) {
    if (key === null || key === `${HERE}log`) {
      const log = this.#read('log');
      if (log === this.log) return;
      this.log = log;
      this.rooms.clear();
      this.outbox.clear();
      this.#load();
      if (this.token) on.signedIn();
      else on.signedOut();
      return;
    }
    const own = `${HERE}${this.log} `;
    if (!key.startsWith(own)) return;
    const [kind, what] = key.slice(own.length).split(' ');
    const value = newValue === null ? null : JSON.parse(newValue);
    const map = { room: this.rooms, out: this.outbox }[kind];
    if (value === null) map?.delete(what);
    else map?.set(what, value);
    if (kind === 'out') on.outbox();
    else if (kind === 'room') value === null ? on.left(what) : on.room(what, value);
    else if (value) {
      ({ name: this.name, token: this.token } = value);
      on.signedIn();
    }
  }

  #wipe() {
    for (const [key] of this.#entries()) this.#remove(`${this.log} ${key}`);
    this.rooms.clear();
    this.outbox.clear();
  }

  #entries() {
    const own = `${HERE}${this.log} `;
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(own));
      return keys.map((key) => [key.slice(own.length), JSON.parse(localStorage.getItem(key))]);
    } catch {
      return [];
    }
  }

  // A browser may refuse to store (private windows, a full quota): then the page works from memory, and says so.

  #read(key) {
    try {
      return JSON.parse(localStorage.getItem(HERE + key));
    } catch {
      return null;
    }
  }

  #write(key, value) {
    try {
      localStorage.setItem(HERE + key, JSON.stringify(value));
    } catch {
      this.stored = false;
    }
  }

  #remove(key) {
    try {
      localStorage.removeItem(HERE + key);
    } catch {
      this.stored = false;
    }
  }
}

// crypto.randomUUID is there on secure origins only, and http://HOST:8080 is none.
const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
