-- cancel_event: tells the workers which jobs are cancelled, all of them in one transaction, and says
-- which are there. Payloads must stay below 8000 bytes: the caller cuts the ids into lists that are
-- short enough.
-- $1 text[]  the ids, as texts of JSON arrays; each is one event
-- $2 int8[]  the same ids
-- > id int8    the jobs that are in the queue, in no order; one row of NULL if there is none
-- locks: none
-- index: the primary key
-- log: none
-- notify: cancellation_event, one a list
WITH told AS MATERIALIZED (
    SELECT pg_notify(:channel_literal,
                     json_build_object('channel', :channel_literal, 'sent_at', now(),
                                       'type', 'cancellation_event',
                                       'ids', list.ids::json)::text)
    FROM unnest($1::text[]) AS list (ids)
)
SELECT q.id::int8
FROM (SELECT count(*) FROM told) AS sent LEFT JOIN :queue AS q ON q.id = ANY ($2)
