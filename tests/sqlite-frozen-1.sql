-- A database as version 1 makes it, with a little of everything in it. Frozen: it stays as it is for ever.

PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1667785076;
PRAGMA user_version = 1;

-- The tables of an SQLite store. `at` and `seen` are in milliseconds since 1970.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rooms (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last INTEGER NOT NULL,      -- the number of the newest message
    first INTEGER NOT NULL,     -- that of the oldest one that retention has left; last + 1: none
    at INTEGER NOT NULL,        -- the moment of the newest message
    oldest INTEGER,             -- that of the one numbered `first`; NULL: none
    indexed INTEGER NOT NULL    -- the search index holds the messages up to this number
) STRICT;

CREATE INDEX rooms_oldest ON rooms (oldest);

CREATE TABLE messages (
    key INTEGER PRIMARY KEY,    -- room's id * 2^40 + number: one tree is the log, its pages and the rowids of `search`
    at INTEGER NOT NULL,
    session INTEGER NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    flags INTEGER NOT NULL      -- 1: said with /me. Other bits are free, as for a text that a moderator erased
) STRICT;

-- The number that each id got. It outlives the text: it goes when the session does.
CREATE TABLE ids (
    session INTEGER NOT NULL,
    room INTEGER NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (session, room, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    token BLOB UNIQUE,          -- SHA-256 of the token
    name TEXT NOT NULL,
    seen INTEGER NOT NULL,
    held INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_seen ON sessions (seen);
CREATE INDEX sessions_held ON sessions (id) WHERE held;

-- Holds no text, only which message has which word. The words come folded; `ascii` cuts them at spaces alone then.
CREATE VIRTUAL TABLE search USING fts5 (words, content = '', columnsize = 0, detail = none, tokenize = 'ascii');

INSERT INTO meta VALUES ('log', '0123456789abcdef'), ('fold', '1, Unicode 14.0.0');
INSERT INTO rooms VALUES
    (1, 'lobby', 4, 2, 1700000004000, 1700000002000, 3),
    (2, 'gone', 2, 3, 1700000000500, NULL, 2);
INSERT INTO messages VALUES
    (1099511627778, 1700000002000, 11, 'ana', '¿Qué tal la mañana?', 0),
    (1099511627779, 1700000003000, 12, 'bob', 'saluda', 1),
    (1099511627780, 1700000004000, 11, 'ana', 'sin índice aún, mañana', 0);
INSERT INTO ids VALUES (11, 1, 'c0', 1), (11, 1, 'c1', 2), (12, 1, 'c0', 3), (11, 1, 'c2', 4), (12, 2, 'f', 1), (12, 2, 'g', 2);
INSERT INTO sessions VALUES
    (11, zeroblob(32), 'ana', 1700000004000, 1),
    (12, NULL, 'bob', 1700000003000, 0);
INSERT INTO search (rowid, words) VALUES (1099511627778, 'que tal la manana'), (1099511627779, 'saluda');
