-- import_find: how far an import has come: the one of this name, else the last one from this source.
-- Waits for a session that is just going on with it, so that nobody goes on behind its back.
-- $1 text  name
-- $2 text  source; NULL: not known
-- > name text, source text, settings text, version int8, finished bool, position int8, digest int8,
-- > lines int8, jobs int8, skipped int8, rejected int8, rejects_bytes int8, updated timestamptz
-- locks: the row, for this statement
-- index: none of the queue's; imports' primary key
-- log: none
-- notify: none
SELECT name, source, settings, version, finished, position, digest, lines, jobs, skipped, rejected,
       rejects_bytes, updated
FROM :imports
WHERE queue = :queue_literal::regclass AND (name = $1 OR source = $2)
ORDER BY (name = $1) DESC, updated DESC
LIMIT 1
FOR UPDATE
