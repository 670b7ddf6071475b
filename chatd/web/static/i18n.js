// What the page says, in the browser's language: English, or Spanish.

const english = {
  entrance: 'Choose a name, and you are in.',
  yourName: 'Your name',
  password: 'Password',
  enter: 'Join the chat',
  entering: 'Connecting…',
  passwordWanted: 'This chat has a password.',
  unreachable: 'The chat does not answer. Trying again…',

  rooms: 'Rooms',
  room: (name) => `#${name}`,
  joinRoom: 'Join a room',
  leaveRoom: (name) => `Leave #${name}`,
  roomName: 'Name of the room',
  allRooms: 'Rooms that are there',
  noRooms: 'None yet.',
  join: 'Join',
  people: (n) => (n === 1 ? '1 person' : `${number(n)} people`),
  unread: (n) => `${number(n)} unread`,
  mentions: (n) => (n === 1 ? '1 mention' : `${number(n)} mentions`),
  signOut: 'Leave the chat',
  signOutUnsent: 'Some of your messages are not sent yet. Leave the chat, and lose them?',

  members: 'Members',
  membersOf: (n) => `Members: ${number(n)}`,
  you: 'you',
  more: 'Show more',
  close: 'Close',

  search: 'Search',
  searchWords: 'Words to look for',
  searching: 'Searching…',
  found: (n, more) => (n === 0 ? 'Nothing found.' : `${number(n)}${more ? ' or more' : ''} found, newest first.`),
  older: 'Older ones',

  writeTo: (room) => `Write to #${room}`,
  send: 'Send',
  outbox: 'Not sent yet',
  sending: 'sending…',
  waiting: 'waiting until it is kept',
  unsent: 'waiting for the connection',
  refused: (why) => `Not sent: ${why}`,
  again: 'Write it again',
  discard: 'Discard',
  tooLong: (n) => `A message has at most 4,000 characters; this one has ${number(n)}.`,
  unknownCommand: (word) => `There is no ${word} here: /me, /join, /leave, /search. To say it, write /${word}`,
  notStored: 'This browser stores nothing: what is not sent yet is lost when the page closes.',

  beginning: 'The beginning of the room.',
  removed: 'Older messages are no longer kept.',
  gap: (first, last) => (first === last ? 'One message is no longer kept.' : `${number(last - first + 1)} messages are no longer kept.`),
  loading: 'Loading…',
  failed: 'That could not be loaded.',
  newMessages: 'New',
  newCount: (n) => (n === 1 ? '1 new message' : `${number(n)} new messages`),
  toLatest: 'To the latest',
  joined: (names, others) => `${list(names, others)} joined`,
  left: (names, others) => `${list(names, others)} left`,
  others: (n) => (n === 1 ? '1 other' : `${number(n)} others`),
  reset: 'The chat was restored from an earlier state. It goes on from here.',

  connecting: 'Connecting…',
  lost: 'The connection is lost. Trying again; what you write is kept and sent then.',
  offline: 'This device is offline. What you write is kept and sent when it is back.',
  farewell: (reason) => `The server says: ${reason}. Trying again; what you write is kept.`,
  back: 'Connected again.',
  tryNow: 'Try now',

  // The server says why itself; this one is the page's own.
  errors: {
    another_log: 'It was written before the chat’s database was replaced.',
    closed: 'The connection is lost.',
  },
};

const spanish = {
  entrance: 'Elige un nombre y ya estás dentro.',
  yourName: 'Tu nombre',
  password: 'Contraseña',
  enter: 'Entrar al chat',
  entering: 'Conectando…',
  passwordWanted: 'Este chat tiene contraseña.',
  unreachable: 'El chat no responde. Se intenta de nuevo…',

  rooms: 'Salas',
  room: (name) => `#${name}`,
  joinRoom: 'Entrar en una sala',
  leaveRoom: (name) => `Salir de #${name}`,
  roomName: 'Nombre de la sala',
  allRooms: 'Salas que hay',
  noRooms: 'Ninguna todavía.',
  join: 'Entrar',
  people: (n) => (n === 1 ? '1 persona' : `${number(n)} personas`),
  unread: (n) => `${number(n)} sin leer`,
  mentions: (n) => (n === 1 ? '1 mención' : `${number(n)} menciones`),
  signOut: 'Salir del chat',
  signOutUnsent: 'Hay mensajes tuyos sin enviar. ¿Salir del chat y perderlos?',

  members: 'Miembros',
  membersOf: (n) => `Miembros: ${number(n)}`,
  you: 'tú',
  more: 'Mostrar más',
  close: 'Cerrar',

  search: 'Buscar',
  searchWords: 'Palabras que buscar',
  searching: 'Buscando…',
  found: (n, more) =>
    n === 0 ? 'No se encontró nada.' : `${number(n)}${more ? ' o más' : ''} ${n === 1 ? 'resultado' : 'resultados'}, primero los más recientes.`,
  older: 'Anteriores',

  writeTo: (room) => `Escribe en #${room}`,
  send: 'Enviar',
  outbox: 'Todavía sin enviar',
  sending: 'enviando…',
  waiting: 'esperando a que se guarde',
  unsent: 'esperando la conexión',
  refused: (why) => `No se envió: ${why}`,
  again: 'Escribirlo de nuevo',
  discard: 'Descartar',
  tooLong: (n) => `Un mensaje tiene como mucho 4.000 caracteres; este tiene ${number(n)}.`,
  unknownCommand: (word) => `Aquí no hay ${word}: /me, /join, /leave, /search. Para decirlo, escribe /${word}`,
  notStored: 'Este navegador no guarda nada: lo que no se haya enviado se pierde al cerrar la página.',

  beginning: 'El principio de la sala.',
  removed: 'Los mensajes anteriores ya no se conservan.',
  gap: (first, last) => (first === last ? 'Un mensaje ya no se conserva.' : `${number(last - first + 1)} mensajes ya no se conservan.`),
  loading: 'Cargando…',
  failed: 'No se pudo cargar.',
  newMessages: 'Nuevo',
  newCount: (n) => (n === 1 ? '1 mensaje nuevo' : `${number(n)} mensajes nuevos`),
  toLatest: 'A lo último',
  joined: (names, others) => `${list(names, others)} ${names.length + others === 1 ? 'entró' : 'entraron'}`,
  left: (names, others) => `${list(names, others)} ${names.length + others === 1 ? 'salió' : 'salieron'}`,
  others: (n) => (n === 1 ? '1 más' : `${number(n)} más`),
  reset: 'El chat se restauró a un estado anterior. Sigue desde aquí.',

  connecting: 'Conectando…',
  lost: 'Se perdió la conexión. Se intenta de nuevo; lo que escribas se guarda y se envía entonces.',
  offline: 'Este dispositivo no tiene conexión. Lo que escribas se guarda y se envía cuando vuelva.',
  farewell: (reason) => `El servidor dice: ${reasons[reason] ?? reason}. Se intenta de nuevo; lo que escribas se guarda.`,
  back: 'Conectado de nuevo.',
  tryNow: 'Intentar ya',

  // The server says why in English; these are its codes.
  errors: {
    another_log: 'Se escribió antes de que se cambiara la base de datos del chat.',
    closed: 'Se perdió la conexión.',
    wrong_password: 'La contraseña no es correcta.',
    bad_name: 'Ese nombre no vale: de 1 a 32 letras y cifras, y empieza por una letra.',
    name_in_use: 'Otra persona usa ese nombre ahora.',
    too_many_connections: 'Hay demasiadas conexiones; se intenta de nuevo más tarde.',
    bad_room: 'Ese nombre de sala no vale.',
    too_many_rooms: 'Son demasiadas salas.',
    not_in_room: 'No estás en esa sala.',
    bad_text: 'El mensaje está vacío o es demasiado largo.',
    bad_id: 'Ya se envió otro mensaje con ese número.',
    bad_search: 'Falta alguna palabra que buscar.',
    too_slow: 'La búsqueda tardaba demasiado.',
    not_kept: 'No se pudo guardar; se intenta de nuevo.',
    too_fast: 'Vas demasiado rápido; el servidor lee más despacio.',
    unavailable: 'El servidor no puede responder ahora.',
  },
};

// Why the server closes, which has no code.
const reasons = {
  'the server is stopping': 'se está parando',
  'the server is full': 'está lleno',
  'no name within a minute': 'pasó un minuto sin un nombre',
};

const tag = navigator.languages.find((each) => /^(en|es)\b/i.test(each)) ?? 'en';
const words = /^es/i.test(tag) ? spanish : english;

const plain = new Intl.NumberFormat(tag);
const names = new Intl.ListFormat(tag);
const clock = new Intl.DateTimeFormat(tag, { timeStyle: 'short' });
const short = new Intl.DateTimeFormat(tag, { dateStyle: 'medium', timeStyle: 'short' });
const whole = new Intl.DateTimeFormat(tag, { dateStyle: 'full', timeStyle: 'medium' });
const date = new Intl.DateTimeFormat(tag, { weekday: 'long', day: 'numeric', month: 'long' });
const dateOfYear = new Intl.DateTimeFormat(tag, { dateStyle: 'full' });
const relative = new Intl.RelativeTimeFormat(tag, { numeric: 'auto' });
const order = new Intl.Collator(tag, { sensitivity: 'base', numeric: true });

export const number = (n) => plain.format(n);
export const list = (some, others = 0) => names.format(others ? [...some, words.others(others)] : some);
export const time = (at) => clock.format(at);
export const stamp = (at) => short.format(at);
export const moment = (at) => whole.format(at);
export const byName = (a, b) => order.compare(a, b) || (a < b ? -1 : 1);

export function t(key, ...values) {
  const said = words[key];
  return typeof said === 'function' ? said(...values) : said;
}

export const complaint = (error) => words.errors[error.code] ?? sentence(error.text);

export function day(at) {
  const midnight = (of) => new Date(of.getFullYear(), of.getMonth(), of.getDate());
  const now = new Date();
  const ago = Math.round((midnight(now) - midnight(at)) / 86_400_000);
  if (ago === 0 || ago === 1) return sentence(relative.format(-ago, 'day'));
  return sentence((at.getFullYear() === now.getFullYear() ? date : dateOfYear).format(at));
}

export const sentence = (text) => text.charAt(0).toLocaleUpperCase(tag) + text.slice(1);

// Elements of index.html name their words: data-text, and data-label for what has no text of its own.
export function translate(root) {
  document.documentElement.lang = tag;
  for (const each of root.querySelectorAll('[data-text]')) each.textContent = t(each.dataset.text);
  for (const each of root.querySelectorAll('[data-placeholder]')) each.placeholder = t(each.dataset.placeholder);
  for (const each of root.querySelectorAll('[data-label]')) {
    each.setAttribute('aria-label', t(each.dataset.label));
    if (each.tagName === 'BUTTON') each.title = t(each.dataset.label);
  }
}
