-- check_worker: what a worker needs and the database has not, in the order in which the Python
-- release asks for it. The objects are looked up as the worker's own statements will find them. One
-- row at least.
-- > kind text, name text, owner text    table, column, label, index, or width (a column that is
-- >                                     not bigint); owner: the table or type; NULL: nothing is
-- >                                     missing
-- > extras bool                         settles can count: the extras are there for it, and this
-- >                                     role may use them
-- > front int8                          claims can keep clear of other workers', likewise: the oid of
-- >                                     the queue, for installations that share the sequence; or NULL
-- > front_at int8                       what the sequence says; NULL: nothing
-- locks: none
-- log: none
-- notify: none
WITH wanted (place, kind, name, owner) AS (
    VALUES (1, 'table', :queue_literal, ''),
           (2, 'table', :statistics_literal, ''),
           (3, 'table', :log_literal, ''),
           (4, 'column', 'updated', :queue_literal),
           (5, 'column', 'heartbeat', :queue_literal),
           (6, 'column', 'queue_manager_id', :queue_literal),
           (7, 'column', 'execute_after', :queue_literal),
           (8, 'column', 'headers', :queue_literal),
           (9, 'column', 'attempts', :queue_literal),
           (10, 'column', 'slot', :queue_literal),
           (11, 'column', 'dedupe_key', :queue_literal),
           (12, 'column', 'traceback', :log_literal),
           (13, 'label', 'canceled', :status_literal),
           (14, 'label', 'failed', :status_literal),
           (15, 'index', '_job_id_status', :log_literal),
           (16, 'index', '_picked_slot_idx', :queue_literal),
           (17, 'width', 'id', :queue_literal)
), missing AS (
    SELECT w.*
    FROM wanted AS w
    WHERE CASE w.kind
              WHEN 'table' THEN to_regclass(w.name) IS NULL
              WHEN 'column' THEN NOT EXISTS (
                  SELECT FROM pg_attribute AS a
                  WHERE a.attrelid = to_regclass(w.owner) AND a.attname = w.name
                        AND a.attnum > 0 AND NOT a.attisdropped)
              WHEN 'width' THEN NOT EXISTS (
                  SELECT FROM pg_attribute AS a
                  WHERE a.attrelid = to_regclass(w.owner) AND a.attname = w.name
                        AND a.atttypid = 'int8'::regtype)
              WHEN 'label' THEN NOT EXISTS (
                  SELECT FROM pg_enum AS e
                  WHERE e.enumtypid = to_regtype(w.owner) AND e.enumlabel = w.name)
              ELSE NOT EXISTS (
                  SELECT
                  FROM pg_index AS x
                  JOIN pg_class AS i ON i.oid = x.indexrelid
                  JOIN pg_class AS t ON t.oid = x.indrelid
                  WHERE t.oid = to_regclass(w.owner) AND i.relname = t.relname || w.name)
          END
)
SELECT m.kind,
       CASE WHEN m.kind = 'index'
            THEN coalesce((SELECT c.relname FROM pg_class AS c WHERE c.oid = to_regclass(m.owner)), '')
                 || m.name
            ELSE m.name END AS name,
       m.owner,
       EXISTS (SELECT
               FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid
               WHERE n.nspname = :extras_literal AND c.relname = 'counts' AND c.relkind = 'r'
                     AND has_schema_privilege(n.oid, 'USAGE')
                     AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                     AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
              ) AS extras,
       (SELECT to_regclass(:queue_literal)::oid::int8
        FROM pg_namespace AS n
        JOIN pg_class AS c ON c.relnamespace = n.oid
        JOIN pg_sequence AS s ON s.seqrelid = c.oid
        WHERE n.nspname = :extras_literal AND c.relname = 'claims_front_seq'
              AND s.seqmax = 9223372036854775807
              AND CASE WHEN c.relkind = 'S'
                       THEN has_schema_privilege(n.oid, 'USAGE')
                            AND has_sequence_privilege(c.oid, 'SELECT')
                            AND has_sequence_privilege(c.oid, 'UPDATE') END
       ) AS front,
       (SELECT s.last_value
        FROM pg_sequences AS s
        WHERE s.schemaname = :extras_literal AND s.sequencename = 'claims_front_seq') AS front_at
FROM (SELECT) AS one LEFT JOIN missing AS m ON true
ORDER BY m.place
