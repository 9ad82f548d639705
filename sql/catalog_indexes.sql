-- catalog_indexes: the named indexes.
-- $1 text    schema, NULL for current_schema()
-- $2 text[]  names
-- > position int8 (1 for the first name); table text; is_unique bool; is_valid bool; definition
-- > text: what pg_get_indexdef prints after " USING "
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    t.relname::text AS table_name,
    i.indisunique AS is_unique,
    i.indisvalid AND i.indisready AND i.indislive AS is_valid,
    regexp_replace(pg_catalog.pg_get_indexdef(c.oid), '^.*? USING ', '') AS definition
FROM unnest($2) WITH ORDINALITY AS wanted (name, position)
JOIN pg_catalog.pg_class AS c ON c.relname = wanted.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
WHERE n.nspname = coalesce($1, current_schema()::text)
ORDER BY wanted.position
