-- extras_enqueue: makes the function that enqueues one job, for clients in any language; with the caller's
-- rights, over enqueue_arrays. The payload is a text, since drivers send texts without a type: read as
-- bytea, their backslashes would be lost.
-- locks: none
-- index: none
-- log: none
-- notify: none
CREATE OR REPLACE FUNCTION :extras.enqueue(
    entrypoint text,
    payload text DEFAULT NULL,
    priority integer DEFAULT 0,
    delay interval DEFAULT NULL,
    execute_after timestamp with time zone DEFAULT NULL,
    dedupe_key text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    on_conflict text DEFAULT 'raise',
    payload_bytes bytea DEFAULT NULL,
    log_policy text DEFAULT 'full'
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF payload IS NOT NULL AND payload_bytes IS NOT NULL THEN
        RAISE EXCEPTION 'a payload and payload_bytes are given; use one' USING ERRCODE = '22023';
    END IF;
    RETURN (:extras.enqueue_arrays(
        ARRAY[entrypoint], ARRAY[coalesce(payload_bytes, convert_to(payload, 'UTF8'))],
        ARRAY[priority], ARRAY[delay], ARRAY[execute_after], ARRAY[dedupe_key], ARRAY[headers],
        on_conflict, log_policy))[1];
END
$body$
