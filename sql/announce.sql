-- announce: tells the fleet that jobs have become free without a change of their rows.
-- > told text    nothing of use
-- locks: none
-- index: none
-- log: none
-- notify: table_changed_event update
SELECT pg_notify(:channel_literal,
                 json_build_object('channel', :channel_literal, 'operation', 'update',
                                   'sent_at', now(), 'table', :queue_name_literal,
                                   'type', 'table_changed_event')::text)::text AS told
