-- import_record: how far an import has come, if nobody else has gone on with it: its version is still
-- the one that was read, or there was no row.
-- $1 text   name
-- $2 text   source; NULL: not known
-- $3 text   settings
-- $4 int8   the version that was read; 0: none
-- $5 bool   finished
-- $6 int8   position
-- $7 int8   digest
-- $8 int8   lines
-- $9 int8   jobs
-- $10 int8  skipped
-- $11 int8  rejected
-- $12 int8  rejects_bytes
-- > version int8    the new one; no row: somebody else has gone on
-- locks: the row of imports
-- index: imports' primary key is the arbiter
-- log: none
-- notify: none
INSERT INTO :imports AS i (queue, name, source, settings, version, finished, position, digest, lines,
                           jobs, skipped, rejected, rejects_bytes)
VALUES (:queue_literal::regclass, $1, $2, $3, $4::int8 + 1, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (queue, name) DO UPDATE
SET source = excluded.source, settings = excluded.settings, version = excluded.version,
    finished = excluded.finished, position = excluded.position, digest = excluded.digest,
    lines = excluded.lines, jobs = excluded.jobs, skipped = excluded.skipped,
    rejected = excluded.rejected, rejects_bytes = excluded.rejects_bytes, updated = now()
WHERE i.version = $4
RETURNING version
