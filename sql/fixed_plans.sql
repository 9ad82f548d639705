-- fixed_plans: makes the plans of this session the same whatever the tables hold and hold next, so that
-- the server can keep them: to plan a claim anew takes it as long as to carry it out. The statements
-- are written so that one index fits each; without sorts and reads of the whole table where another way
-- leads there, it is the one that is taken, also by a plan that was made when the queue was empty.
-- Compiling, which what is ruled out would seem to be worth by its cost, is none of it.
-- $1 int4    the process that is believed to serve this session. Behind a pooler that gives sessions to
--            others it is another one, and nothing is set: plans are made anew there each time
-- > set int8    how many settings
-- locks: none
-- index: none
-- log: none
-- notify: none
SELECT count(set_config(s.name, s.value, false)) AS set
FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'),
             ('enable_sort', 'off'), ('enable_incremental_sort', 'off'), ('jit', 'off'))
         AS s (name, value)
WHERE pg_backend_pid() = $1
