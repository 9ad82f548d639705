#include "pg/client.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdlib.h>

static int64_t call_deadline(const pgq_client *client)
{
    if (client->call_timeout_us == 0)
        return CLOCK_NEVER;
    return clock_monotonic_us() + client->call_timeout_us;
}

pgq_code client_begin(pgq_client *client, int64_t *ret_deadline_us, pgq_error *err)
{
    *ret_deadline_us = call_deadline(client);
    return pg_conn_open(client->conn, *ret_deadline_us, err);
}

pgq_code pgq_client_open(const pgq_connect_options *options, pgq_client **ret_client,
                         pgq_error *err)
{
    pgq_connect_options own = PGQ_CONNECT_OPTIONS_INIT;
    pgq_client *client;
    pgq_code code = base_copy_options(&own, sizeof(own), options, "pgq_connect_options", err);

    if (code != PGQ_OK)
        return code;
    if (own.call_timeout_ms < 0)
        return error_set(err, PGQ_E_INVALID, "call_timeout_ms is negative: %d",
                         own.call_timeout_ms);
    if ((unsigned)own.log_policy > PGQ_LOG_POLICY_FAILURES)
        return error_set(err, PGQ_E_INVALID, "there is no log policy %d", (int)own.log_policy);
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        return error_nomem(err);
    client->call_timeout_us = (int64_t)own.call_timeout_ms * 1000;
    client->log_policy =
        own.log_policy != PGQ_LOG_POLICY_DEFAULT ? own.log_policy : PGQ_LOG_POLICY_FULL;
    code = names_resolve(own.names, &client->names, err);
    if (code == PGQ_OK)
        code = target_parse(&own, &client->where, err);
    if (code == PGQ_OK)
        code = statements_new(&client->names, &client->statements, err);
    if (code == PGQ_OK) {
        code = pg_conn_new(&client->where, client->statements, &client->conn);
        if (code != PGQ_OK)
            (void)error_nomem(err);
    }
    if (code == PGQ_OK)
        code = pg_conn_open(client->conn, CLOCK_NEVER, err);
    if (code != PGQ_OK) {
        (void)pgq_client_free(client);
        return code;
    }
    *ret_client = client;
    return PGQ_OK;
}

pgq_client *pgq_client_free(pgq_client *client)
{
    if (client == NULL)
        return NULL;
    (void)pg_conn_free(client->conn);
    (void)statements_free(client->statements);
    target_release(&client->where);
    names_release(&client->names);
    free(client);
    return NULL;
}

void pgq_text_free(char *text)
{
    free(text);
}
