-- ping: sends a health_check_event, which must come back to the worker's own listener.
-- $1 uuid    the event's id
-- > pg_notify text
-- locks: none
-- index: none
-- log: none
-- notify: health_check_event
SELECT pg_notify(:channel_literal,
                 json_build_object('channel', :channel_literal, 'sent_at', now(),
                                   'type', 'health_check_event', 'id', $1::uuid)::text)::text AS pg_notify
