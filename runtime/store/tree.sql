-- schema of a journal's Merkle tree, for every store that has a journal

CREATE TABLE IF NOT EXISTS subtree (
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    root   BLOB NOT NULL,
    PRIMARY KEY (level, number)
) WITHOUT ROWID;

-- write: keep_subtree keeps the root of a complete subtree of the entries' Merkle tree: level, number, root
INSERT INTO subtree (level, number, root) VALUES (?, ?, ?)
ON CONFLICT (level, number) DO UPDATE SET root = excluded.root

-- query: subtrees of a level from one number to another
SELECT number, root FROM subtree WHERE level = ? AND number BETWEEN ? AND ? ORDER BY number

-- query: subtree_count of a level: they are kept in order, without a gap
SELECT coalesce(max(number) + 1, 0) FROM subtree WHERE level = ?

-- query: hash_of an entry
SELECT hash FROM journal WHERE sequence = ?
