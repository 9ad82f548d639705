-- catalog_routines: the functions of our own for producers.
-- $1 text    schema
-- $2 text[]  names
-- $3 text[]  for each, the types of its arguments
-- > position int8 (1 for the first name); body text;
-- > definer bool, whether it has its owner's rights; pinned bool, whether its search_path is ours
-- locks: none beyond AccessShare on the catalogue
SELECT
    wanted.position,
    p.prosrc AS body,
    p.prosecdef AS definer,
    coalesce(p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'], false) AS pinned
FROM unnest($2, $3) WITH ORDINALITY AS wanted (name, arguments, position)
JOIN pg_catalog.pg_proc AS p
    ON p.proname = wanted.name AND oidvectortypes(p.proargtypes) = wanted.arguments
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = $1
ORDER BY wanted.position
