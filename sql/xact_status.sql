-- xact_status: what became of a transaction: in progress, committed or aborted; NULL: too long ago. An id that
-- was not given out yet is an error, 22023: after a crash the server may give it out again.
-- $1 int8  the transaction's id
-- > status text
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT pg_xact_status($1::int8::text::xid8) AS status
