// A room as this page has it: a window into the room's log, and the cursor behind which new messages come.
//
// The window is a run of messages without holes. At the end of the log it grows with each message that comes;
// anywhere else it stays as it is, and pages are put before and behind it as the reader scrolls.

export const PAGE = 100;
const WINDOW = 1_000;
const ASIDE = 300; // of a room that is not shown

export class Room {
  messages = []; // and gaps: {gap: true, seq: its last number, first, last}
  atEnd = true;
  cursor = null; // the last number received; null until the server has said where we begin
  first = 1; // the first number that is kept
  read = null;
  unread = 0;
  mentions = 0;
  divider = null; // the first number that was unread when the reader came, or went away
  count = 0;
  names = new Set();
  next = null; // the name behind which the list of members goes on
  stale = true; // whether more came and went than `names` knows of
  loading = null; // the page that is under way

  constructor(name, read = null) {
    this.name = name;
    this.read = read;
    this.cursor = read;
  }

  get begin() {
    return this.messages[0]?.seq ?? this.cursor + 1;
  }

  get end() {
    return this.messages.at(-1)?.seq ?? this.cursor;
  }

  get atBeginning() {
    const [oldest] = this.messages;
    return (oldest?.gap ? oldest.first : this.begin) <= this.first;
  }

  // The answer to a join that asked for `after`: a number, or how many of the last.
  entered({ seq, first, count, names, reset }, after) {
    this.first = first;
    this.count = count;
    this.names = new Set(names);
    this.stale = names.length !== count;
    if (reset) this.restart(seq);
    else if (after < 0) this.#skip(Math.max(0, seq + after));
    else if (seq > this.cursor) this.divider = this.cursor + 1;
    this.read ??= seq;
  }

  // What lies between was not read, and does not come: it is there for whoever scrolls up.
  #skip(cursor) {
    if (this.cursor !== null && this.cursor >= cursor) {
      // It has come all the same, and comes again; what was received is not received twice.
      if (this.unread) this.divider = cursor + 1;
      return;
    }
    const skipped = this.read === null ? 0 : cursor - Math.max(this.cursor, this.read);
    if (skipped > 0) {
      this.unread += skipped;
      this.divider = cursor + 1;
    }
    this.restart(cursor);
  }

  forget() {
    this.read = this.divider = null;
    this.unread = this.mentions = 0;
    this.restart(null);
  }

  // Drops the window; the next message is the one behind `cursor`.
  restart(cursor) {
    this.messages = [];
    this.atEnd = true;
    this.cursor = cursor;
    if (this.read > cursor) this.read = cursor;
  }

  // Takes a message that came, and returns whether it is in the window now. At `limit` messages the window stops
  // growing; `seen`: the reader is looking.
  receive(message, { own, mention, limit, seen }) {
    if (this.cursor === null || message.seq <= this.cursor) return false;
    this.cursor = message.seq;
    if (this.messages.length >= limit) this.atEnd = false;
    if (this.atEnd) this.messages.push(message);
    if (!own && !message.gap && message.seq > this.read) {
      if (!seen && this.unread === 0) this.divider = message.seq;
      this.unread += 1;
      if (mention) this.mentions += 1;
    }
    return this.atEnd;
  }

  readUpTo(seq) {
    this.read = seq;
    if (seq >= this.cursor) this.unread = this.mentions = 0;
  }

  // Pages ask for what is before or behind the window; they may end ahead of the cursor, and stop there.

  prepend(page) {
    this.messages.unshift(...page);
    const surplus = this.messages.length - WINDOW;
    if (surplus <= 0) return;
    this.messages.splice(-surplus);
    this.atEnd = false;
  }

  append(page) {
    this.messages.push(...page.filter(({ seq }) => seq > this.end && seq <= this.cursor));
    this.atEnd = page.length === 0 || this.end >= this.cursor;
    this.trim(WINDOW);
  }

  replace(page) {
    this.messages = page.filter(({ seq }) => seq <= this.cursor);
    this.atEnd = this.end >= this.cursor;
  }

  trim(most = ASIDE) {
    if (this.messages.length > most) this.messages.splice(0, this.messages.length - most);
  }

  joined({ names, total, count }) {
    for (const name of names) this.names.add(name);
    this.#counted(count, total > names.length);
  }

  left({ names, total, count }) {
    for (const name of names) this.names.delete(name);
    this.#counted(count, total > names.length);
  }

  presence({ count }) {
    this.#counted(count, true);
  }

  // A page of members: the first one, or the one behind those that are known.
  listed({ names, next }, first) {
    this.names = new Set(first ? names : [...this.names, ...names]);
    this.next = next ?? null;
    this.stale = false;
  }

  // Who comes and goes within a second is told of in no event, and may be in `names` all the same.
  #counted(count, stale) {
    this.count = count;
    this.stale ||= stale || (this.next === null && this.names.size !== count);
  }
}
