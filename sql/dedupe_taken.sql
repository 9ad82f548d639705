-- dedupe_taken: which of these dedupe keys an active job has.
-- $1 text[]  keys; NULL is never taken
-- > ord int8    place in the array, from 1
-- locks: none
-- index: {queue}_unique_dedupe_key
-- log: none
-- notify: none
SELECT k.ord
FROM unnest($1::text[]) WITH ORDINALITY AS k (dedupe_key, ord)
WHERE EXISTS (SELECT FROM :queue AS q
              WHERE q.dedupe_key = k.dedupe_key AND q.dedupe_key IS NOT NULL
                AND q.status = ANY (ARRAY['queued':::status, 'picked':::status]))
ORDER BY k.ord
