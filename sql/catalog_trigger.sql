-- catalog_trigger: the trigger of the queue table.
-- $1 text  schema, NULL for current_schema()
-- $2 text  trigger
-- $3 text  table
-- > type int4 (pg_trigger.tgtype); fires bool, false when disabled or for replicas only;
-- > has_condition bool; function text, with its schema when that is not the table's
-- locks: none beyond AccessShare on the catalogue
SELECT
    g.tgtype::int4 AS type,
    g.tgenabled IN ('O', 'A') AS fires,
    g.tgqual IS NOT NULL AS has_condition,
    CASE
        WHEN p.pronamespace = c.relnamespace THEN p.proname::text
        ELSE p.pronamespace::regnamespace::text || '.' || p.proname::text
    END AS function_name
FROM pg_catalog.pg_trigger AS g
JOIN pg_catalog.pg_class AS c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
WHERE
    n.nspname = coalesce($1, current_schema()::text)
    AND c.relname = $3
    AND g.tgname = $2
    AND NOT g.tgisinternal
