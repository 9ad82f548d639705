-- enqueue_ids: ids for jobs that are copied into the tables, in the order in which they are drawn.
-- $1 int8  how many
-- > ids int8[], now timestamptz, copy bool    copy: whether rows may be copied into the
-- >                                            queue: by this role, and with 64 bits of id
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT (SELECT array_agg(nextval(s.name))
        FROM (SELECT pg_get_serial_sequence(:queue_literal, 'id')::regclass AS name OFFSET 0) AS s,
             generate_series(1, $1::int8)) AS ids,
       now() AS now,
       NOT row_security_active(:queue_literal::regclass)
       AND NOT row_security_active(:log_literal::regclass)
       AND EXISTS (SELECT FROM pg_attribute AS a
                   WHERE a.attrelid = :queue_literal::regclass AND a.attname = 'id'
                         AND a.atttypid = 'int8'::regtype) AS copy
