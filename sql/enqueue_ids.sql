-- enqueue_ids: ids for jobs that are copied into the tables, in the order in which they are drawn.
-- $1 int8  how many
-- > ids int8[], now timestamptz, copy bool    copy: whether this role may COPY into the queue
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT (SELECT array_agg(nextval(s.name))
        FROM (SELECT pg_get_serial_sequence(:queue_literal, 'id')::regclass AS name OFFSET 0) AS s,
             generate_series(1, $1::int8)) AS ids,
       now() AS now,
       NOT row_security_active(:queue_literal::regclass)
       AND NOT row_security_active(:log_literal::regclass) AS copy
