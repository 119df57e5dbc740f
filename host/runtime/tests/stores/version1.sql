-- A database as version 1 of the plugin's schema left it. Never change it: such files are out there.
CREATE TABLE cache (
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX cache_expires ON cache (expires) WHERE expires IS NOT NULL;

CREATE TABLE config (
    namespace INTEGER NOT NULL,
    id BLOB NOT NULL,
    value BLOB NOT NULL,
    ttl INTEGER,
    expires INTEGER,
    UNIQUE (namespace, id)
) STRICT;
CREATE INDEX config_expires ON config (expires) WHERE expires IS NOT NULL;

-- A memory's messages are numbered first .. next without gaps, so that a count is a difference and a page is a range.
CREATE TABLE memory (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    first INTEGER NOT NULL,
    next INTEGER NOT NULL CHECK (next > first),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    expires INTEGER
) STRICT;
CREATE INDEX memory_expires ON memory (expires) WHERE expires IS NOT NULL;

CREATE TABLE message (
    memory INTEGER NOT NULL,
    number INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (memory, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE flush (
    key BLOB NOT NULL PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX flush_expires ON flush (expires);

INSERT INTO cache (key, value, version, expires) VALUES (CAST('k' AS BLOB), CAST('v' AS BLOB), 42, 1700000000500);
INSERT INTO config (namespace, id, value, ttl, expires) VALUES (2, CAST('id' AS BLOB), CAST('v' AS BLOB), NULL, NULL);
INSERT INTO memory (id, key, first, next, tokens, expires) VALUES (7, CAST('m' AS BLOB), 3, 5, 30, NULL);
INSERT INTO message (memory, number, tokens, content) VALUES (7, 3, 10, CAST('a' AS BLOB)), (7, 4, 20, CAST('b' AS BLOB));
INSERT INTO flush (key, expires) VALUES (CAST('m' AS BLOB), 1700000000500);
PRAGMA user_version = 1;
