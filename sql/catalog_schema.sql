-- catalog_schema: where the objects are looked for and made, and what the role may do there.
-- $1 text  schema, NULL for current_schema()
-- > name text, NULL when nothing of the search_path exists; schema_exists bool; may_create bool
-- locks: none beyond AccessShare on the catalogue
SELECT
    coalesce($1, current_schema()::text) AS name,
    n.oid IS NOT NULL AS schema_exists,
    coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create
FROM (SELECT 1) AS one
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = coalesce($1, current_schema()::text)
