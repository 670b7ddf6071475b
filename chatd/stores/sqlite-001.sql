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
