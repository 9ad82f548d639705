/* A client: one connection with its target, names and statements, for blocking calls. */
#ifndef PG_CLIENT_H
#define PG_CLIENT_H

#include "pg/conn.h"

struct pgq_client {
    target where;
    names names;
    statements *statements;
    pg_conn *conn;
    int64_t call_timeout_us;   /* 0: no limit */
    pgq_log_policy log_policy; /* not DEFAULT */
    bool sees_no_ids;          /* the role may insert into the queue, but not SELECT the id */
};

/* Makes the connection ready, connecting again if it was lost, and gives the instant at which the
 * call that begins now must end. */
pgq_code client_begin(pgq_client *client, int64_t *ret_deadline_us, pgq_error *err);

#endif
