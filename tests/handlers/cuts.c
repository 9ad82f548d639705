/* Journal handlers for connections that are cut: the entrypoints of journal.c, of which those
 * whose name begins with `limited` may have LIMIT jobs picked at once over the fleet.
 *
 *   pgqueuer run cuts.so:cuts_factory -- JOURNAL LIMIT [NAME=BEHAVIOUR | BEHAVIOUR]... */
#include "journal.c"

static pgq_code add_limited(pgq_worker *worker, char *argument, int limit, pgq_error *err)
{
    pgq_entrypoint_options options = PGQ_ENTRYPOINT_OPTIONS_INIT;
    char *equals = strchr(argument, '=');
    const char *wanted = equals == NULL ? argument : equals + 1;

    if (equals != NULL)
        *equals = '\0';
    for (size_t i = 0; i < behaviour_count; i++) {
        if (strcmp(behaviours[i].name, wanted) != 0)
            continue;
        options.on_failure = behaviours[i].on_failure;
        if (strncmp(argument, "limited", strlen("limited")) == 0)
            options.concurrency_limit = limit;
        return pgq_worker_entrypoint(worker, argument, handle, (void *)(uintptr_t)&behaviours[i],
                                     &options, err);
    }
    return refuse(err, "no such behaviour", wanted);
}

pgq_code cuts_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err);
pgq_code cuts_factory(pgq_worker *worker, int argc, char **argv, pgq_error *err)
{
    pgq_code code;

    if (argc < 3)
        return refuse(err, "too few arguments", "JOURNAL LIMIT NAME...");
    code = factory(worker, 2, (char *[]){argv[0], "unused=ok"}, err);
    for (int i = 2; i < argc && code == PGQ_OK; i++)
        code = add_limited(worker, argv[i], (int)strtol(argv[1], NULL, 10), err);
    return code;
}
