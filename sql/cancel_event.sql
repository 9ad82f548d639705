-- cancel_event: tells the workers which jobs are cancelled, all of them in one transaction. Payloads
-- must stay below 8000 bytes: the caller cuts the ids into lists that are short enough.
-- $1 text[]  the ids, as texts of JSON arrays; each is one event
-- > sent int8    the number of events
-- locks: none
-- index: none
-- log: none
-- notify: cancellation_event, one an element
WITH told AS MATERIALIZED (
    SELECT pg_notify(:channel_literal,
                     json_build_object('channel', :channel_literal, 'sent_at', now(),
                                       'type', 'cancellation_event',
                                       'ids', list.ids::json)::text)
    FROM unnest($1::text[]) AS list (ids)
)
SELECT count(*) AS sent FROM told
