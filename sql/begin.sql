-- begin: begins a transaction.
-- locks: none
-- index: none
-- log: none
-- notify: none
BEGIN
