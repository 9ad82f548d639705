-- catalog_sequences: the sequences that belong to columns of the named tables.
-- $1 text    schema, NULL for current_schema()
-- $2 text[]  tables
-- > position int8 (1 for the first table); name text; type text as format_type prints it; column
-- > text
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    s.relname::text AS name,
    pg_catalog.format_type(q.seqtypid, NULL) AS type,
    a.attname::text AS column_name
FROM unnest($2) WITH ORDINALITY AS wanted (name, position)
JOIN pg_catalog.pg_class AS c ON c.relname = wanted.name
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_depend AS d
    ON
        d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.refobjid = c.oid
        AND d.classid = 'pg_catalog.pg_class'::regclass
        AND d.deptype IN ('a', 'i')
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_sequence AS q ON q.seqrelid = s.oid
WHERE n.nspname = coalesce($1, current_schema()::text)
ORDER BY wanted.position, a.attnum, s.relname
