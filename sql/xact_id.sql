-- xact_id: the id of the transaction under way, and the instant at which it began, which is the `created` of
-- the rows that it inserts.
-- > xid int8, began timestamptz
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT pg_current_xact_id()::text::int8 AS xid, now() AS began
