-- server_identify: which server this is, how far its history goes, and whether it may have crashed since it
-- was asked before: a crash always ends in a checkpoint.
-- > system int8, timeline int8, checkpoint int8, standby bool    timeline NULL: on a standby
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT s.system_identifier::int8 AS system,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8
       END AS timeline,
       (c.checkpoint_lsn - '0/0'::pg_lsn)::int8 AS checkpoint, pg_is_in_recovery() AS standby
FROM pg_control_system() AS s, pg_control_checkpoint() AS c
