-- commit: ends a transaction. That it succeeds is not enough: the command tag says COMMIT, or ROLLBACK
-- when an earlier statement had failed.
-- locks: none; frees those of the transaction
-- index: none
-- log: none
-- notify: what the transaction's statements have sent
COMMIT
