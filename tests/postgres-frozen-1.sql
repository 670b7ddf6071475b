-- A database as version 1 makes it, with a little of everything in it. Frozen: it stays as it is for ever.

-- The tables of a PostgreSQL store, in a database of its own. `at` and `seen` are in milliseconds since 1970.

CREATE TABLE meta (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- Whoever writes to a room locks its row. A room gets it just before its first message: `last` = 0 is no room yet.
CREATE TABLE rooms (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    last bigint NOT NULL DEFAULT 0,     -- the number of the newest message
    at bigint NOT NULL DEFAULT 0        -- its moment
) WITH (fillfactor = 50);

-- What is done to a room beside the messages, in a row of its own so that they do not wait for it.
CREATE TABLE upkeep (
    room integer PRIMARY KEY,
    first bigint NOT NULL DEFAULT 1,    -- the number of the oldest message that retention has left; last + 1: none
    indexed bigint NOT NULL DEFAULT 0   -- the search index holds the messages up to this number
) WITH (fillfactor = 50);

CREATE TABLE messages (
    room integer NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    session bigint NOT NULL,
    name text NOT NULL,
    text text NOT NULL,
    flags integer NOT NULL,             -- 1: said with /me. Other bits are free, as for an erased text
    PRIMARY KEY (room, seq)
);

-- The number that each id got. It outlives the text: it goes when the session does.
CREATE TABLE ids (
    session bigint NOT NULL,
    room integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (session, room, id)
);

CREATE TABLE sessions (
    id bigint PRIMARY KEY,
    token bytea UNIQUE,                 -- SHA-256 of the token
    name text NOT NULL,
    seen bigint NOT NULL,
    held boolean NOT NULL
);

CREATE INDEX sessions_seen ON sessions (seen);
CREATE INDEX sessions_held ON sessions (id) WHERE held;

-- Which message has which word: each with its room and the block of numbers that the message is in, so that a search
-- goes from block to block, newest first, and never sees more than one block of one room at a time.
CREATE TABLE search (
    room integer NOT NULL,
    seq bigint NOT NULL,
    words text[] COLLATE "C" NOT NULL,
    PRIMARY KEY (room, seq)
);

CREATE INDEX search_words ON search USING gin (words) WITH (fastupdate = off);

-- The nodes that are alive. One that has been renewed without a gap since `since` may remove those that are not.
CREATE TABLE nodes (
    id text PRIMARY KEY,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL
);

-- Which session goes by which name: the key is what makes two names the same.
CREATE TABLE names (
    key text COLLATE "C" PRIMARY KEY,
    session bigint NOT NULL
);

CREATE INDEX names_session ON names (session);

-- Which session is on which node; with `until`, only so long if the node dies.
CREATE TABLE here (
    session bigint NOT NULL,
    node text NOT NULL,
    resumable boolean NOT NULL,         -- it has a token
    until timestamptz,
    PRIMARY KEY (session, node)
);

-- Which session is in which room, by which node.
CREATE TABLE presence (
    room text COLLATE "C" NOT NULL,
    session bigint NOT NULL,
    node text NOT NULL,
    PRIMARY KEY (room, session, node)
);

CREATE INDEX presence_session ON presence (session, node);

INSERT INTO meta VALUES ('version', '1'), ('log', '0123456789abcdef'), ('fold', '1, Unicode 14.0.0');
INSERT INTO rooms OVERRIDING SYSTEM VALUE VALUES (1, 'lobby', 4, 1700000004000), (2, 'gone', 2, 1700000000500);
SELECT setval(pg_get_serial_sequence('rooms', 'id'), 2);
INSERT INTO upkeep VALUES (1, 2, 3), (2, 3, 2);
INSERT INTO messages VALUES
    (1, 2, 1700000002000, 11, 'ana', '¿Qué tal la mañana?', 0),
    (1, 3, 1700000003000, 12, 'bob', 'saluda', 1),
    (1, 4, 1700000004000, 11, 'ana', 'sin índice aún, mañana', 0);
INSERT INTO ids VALUES
    (11, 1, 'c0', 1), (11, 1, 'c1', 2), (12, 1, 'c0', 3), (11, 1, 'c2', 4), (12, 2, 'f', 1), (12, 2, 'g', 2);
INSERT INTO sessions VALUES
    (11, decode(repeat('00', 32), 'hex'), 'ana', 1700000004000, true),
    (12, NULL, 'bob', 1700000003000, false);
INSERT INTO search VALUES (1, 2, '{1.0.que,1.0.tal,1.0.la,1.0.manana}'), (1, 3, '{1.0.saluda}');
INSERT INTO nodes VALUES ('a-node', now(), now() + interval '1 hour');
INSERT INTO names VALUES ('ana', 11);
INSERT INTO here VALUES (11, 'a-node', true, NULL);
INSERT INTO presence VALUES ('lobby', 11, 'a-node');
