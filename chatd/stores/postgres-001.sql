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
