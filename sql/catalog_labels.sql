-- catalog_labels: which of the named types exist, and their labels.
-- $1 text    schema, NULL for current_schema()
-- $2 text[]  names
-- > position int8 (1 for the first name); label text: one row for each, or one row with NULL for a
-- > type without any
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    e.enumlabel::text AS label
FROM unnest($2) WITH ORDINALITY AS wanted (name, position)
JOIN pg_catalog.pg_type AS t ON t.typname = wanted.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_enum AS e ON e.enumtypid = t.oid
WHERE n.nspname = coalesce($1, current_schema()::text)
ORDER BY wanted.position, e.enumsortorder
