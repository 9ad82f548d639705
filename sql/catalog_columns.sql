-- catalog_columns: the columns of the named tables.
-- $1 text    schema, NULL for current_schema()
-- $2 text[]  tables
-- > position int8 (1 for the first table); name text; type text as format_type prints it;
-- > not_null bool; default text, NULL when there is none; is_identity bool
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    a.attname::text AS name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AS not_null,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_text,
    a.attidentity <> '' AS is_identity
FROM unnest($2) WITH ORDINALITY AS wanted (name, position)
JOIN pg_catalog.pg_class AS c ON c.relname = wanted.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE
    n.nspname = coalesce($1, current_schema()::text)
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND a.attnum > 0
    AND NOT a.attisdropped
ORDER BY wanted.position, a.attnum
