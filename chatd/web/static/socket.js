// The connection: JSON lines over a WebSocket, made again for as long as the page wants it.

const CONNECTING = 20_000; // so long may it take until the first answer
const SILENT = 25_000; // after so long without a word, ask whether the line is alive,
const UNANSWERED = 5_000; // and after so long when we have said something
const ANSWER = 10_000; // so long may that answer take
const BEAT = 5_000;

const backoff = (tries, since) => (since < 120_000 ? Math.min(10_000, 500 * 2 ** tries) : 30_000);

// `on` is told: opened(), received(messages), closed().
export class Connection {
  ready = false;
  #url;
  #on;
  #socket = null;
  #timer = 0;
  #tries = 0;
  #lostAt = 0;
  #heldUntil = 0;
  #heardAt = 0;
  #saidAt = 0;
  #deadline = Infinity;

  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    setInterval(() => this.#beat(), BEAT);
    addEventListener('online', () => this.#wake());
    addEventListener('pageshow', () => this.#wake());
    document.addEventListener('visibilitychange', () => document.hidden || this.#wake());
  }

  connect() {
    this.#abandon();
    const socket = (this.#socket = new WebSocket(this.#url));
    this.#deadline = Date.now() + CONNECTING;
    socket.onopen = () => this.#on.opened();
    socket.onclose = () => this.lost();
    socket.onmessage = ({ data }) => {
      this.#heardAt = Date.now();
      this.#deadline = Infinity;
      this.#on.received(data.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line)));
    };
  }

  close() {
    this.#abandon();
    this.#tries = 0;
    this.#heldUntil = 0;
  }

  // The server has let us in: the next loss is a new one.
  welcomed() {
    this.ready = true;
    this.#tries = 0;
  }

  // The server is about to close, and asks us to stay away for so many seconds.
  hold(seconds) {
    this.#heldUntil = Date.now() + seconds * 1000;
  }

  send(request) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify(request));
    if (this.#saidAt <= this.#heardAt) this.#saidAt = Date.now();
  }

  // A dead line may never say so, nor finish closing: the old socket is left to itself.
  #abandon() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.ready = false;
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onclose = this.#socket.onmessage = null;
    this.#socket.close();
    this.#socket = null;
  }

  lost() {
    this.#abandon();
    const now = Date.now();
    if (this.#tries === 0) this.#lostAt = now;
    // Full jitter: all who lost the server at one moment must not come back at one moment.
    const delay = this.#tries === 0 ? 0 : Math.random() * backoff(this.#tries, now - this.#lostAt);
    const held = this.#heldUntil - now;
    this.#timer = setTimeout(() => this.connect(), held > 0 ? held + Math.random() * 1_000 : delay);
    this.#tries += 1;
    this.#on.closed();
  }

  #wake() {
    if (this.#timer && Date.now() >= this.#heldUntil) this.connect();
    else if (this.ready) this.#ask();
  }

  #ask() {
    this.#deadline = Math.min(this.#deadline, Date.now() + ANSWER);
    this.send({ type: 'ping' });
  }

  #beat() {
    if (!this.#socket) return;
    const now = Date.now();
    const unanswered = this.#saidAt > this.#heardAt && now - this.#saidAt > UNANSWERED;
    if (now > this.#deadline) this.lost();
    else if (this.ready && (unanswered || now - this.#heardAt > SILENT)) this.#ask();
  }
}
