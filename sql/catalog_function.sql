-- catalog_function: the trigger function.
-- $1 text  schema, NULL for current_schema()
-- $2 text  name
-- > returns_trigger bool; body text
-- locks: none beyond AccessShare on the catalogue
SELECT
    p.prorettype = 'pg_catalog.trigger'::regtype AS returns_trigger,
    p.prosrc AS body
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE
    n.nspname = coalesce($1, current_schema()::text)
    AND p.proname = $2
    AND p.pronargs = 0
