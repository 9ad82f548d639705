-- catalog_tables: which of the named relations exist.
-- $1 text    schema, NULL for current_schema()
-- $2 text[]  names
-- > position int8 (1 for the first name); is_table bool, false for views and the like; logged bool;
-- > row_estimate int8, -1 when the server has none
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    c.relkind IN ('r', 'p') AS is_table,
    c.relpersistence = 'p' AS logged,
    c.reltuples::int8 AS row_estimate
FROM unnest($2) WITH ORDINALITY AS wanted (name, position)
JOIN pg_catalog.pg_class AS c ON c.relname = wanted.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE
    n.nspname = coalesce($1, current_schema()::text)
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY wanted.position
