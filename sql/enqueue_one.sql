-- enqueue_one: as enqueue_raise, for one job: without arrays, and with the id that the row itself draws, it costs
-- the server a third less. It needs SELECT on the queue's id, which enqueue_raise does not.
-- $1 text         entrypoint
-- $2 bytea        payload, NULL for none
-- $3 jsonb        headers, NULL for none
-- $4 int4         priority
-- $5 int8         delay in milliseconds
-- $6 timestamptz  absolute time, NULL to use the delay
-- $7 text         dedupe key, NULL for none
-- $8 bool         whether it is logged
-- > ord int8, id int8    one row; ord is 1
-- locks: RowExclusive on queue and log
-- log: queued, if it is to be logged
-- notify: table_changed_event insert, by the trigger
WITH inserted AS (
    INSERT INTO :queue (priority, execute_after, status, entrypoint, dedupe_key, payload, headers)
    VALUES ($4::int4, coalesce($6::timestamptz, now() + $5::int8 * interval '1 millisecond'),
            'queued', $1::text, $7::text, $2::bytea, $3::jsonb)
    RETURNING id
), logged AS (
    INSERT INTO :log (job_id, status, priority, entrypoint)
    SELECT id, 'queued', $4, $1 FROM inserted WHERE $8::bool
)
SELECT 1::int8 AS ord, id::int8 FROM inserted
