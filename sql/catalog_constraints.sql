-- catalog_constraints: the primary keys and UNIQUE constraints of the named tables.
-- $1 text    schema, NULL for current_schema()
-- $2 text[]  tables
-- > position int8 (1 for the first table); is_primary bool; columns text, in the order of the key,
-- > separated by ", "
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    k.contype = 'p' AS is_primary,
    (
        SELECT string_agg(a.attname::text, ', ' ORDER BY part.position)
        FROM unnest(k.conkey) WITH ORDINALITY AS part (attnum, position)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = part.attnum
    ) AS columns
FROM unnest($2) WITH ORDINALITY AS wanted (name, position)
JOIN pg_catalog.pg_class AS c ON c.relname = wanted.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid
WHERE
    n.nspname = coalesce($1, current_schema()::text)
    AND k.contype IN ('p', 'u')
ORDER BY wanted.position, k.conname
