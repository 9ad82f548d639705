-- listen: receives the channel's notifications on this connection.
-- locks: none
-- log: none
-- notify: none
LISTEN :channel
