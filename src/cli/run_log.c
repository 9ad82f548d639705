#include "cli/run_log.h"
#include "base/error.h"

#include <unistd.h>

static void write_stderr(void *user, const char *line, size_t len)
{
    (void)user;
    (void)cli_write(STDERR_FILENO, line, len);
}

void run_log_open(run_log *l, const cli *c)
{
    pgq_log_level level = PGQ_LOG_INFO;

    *l = (run_log){.cli = c};
    (void)pthread_mutex_init(&l->lock, NULL); /* without attributes it cannot fail */
    (void)log_level_parse(cli_text(c, OPT_LOG_LEVEL), &level);
    atomic_init(&l->level, (int)level);
    log_open(&l->writer, (log_format)cli_number(c, OPT_LOG_FORMAT), PGQ_LOG_DEBUG, write_stderr,
             NULL);
}

void run_log_close(run_log *l)
{
    log_close(&l->writer);
    (void)pthread_mutex_destroy(&l->lock);
}

static void write_event(run_log *l, pgq_log_level level, const char *event,
                        const pgq_log_field *fields, size_t count)
{
    (void)pthread_mutex_lock(&l->lock);
    log_write(&l->writer, level, event, fields, count);
    (void)pthread_mutex_unlock(&l->lock);
}

pgq_log_level run_log_worker_level(const run_log *l)
{
    int level = atomic_load(&l->level);

    return (pgq_log_level)(l->watch != NULL && level > PGQ_LOG_INFO ? (int)PGQ_LOG_INFO : level);
}

void run_log_sink(void *log, pgq_log_level level, const char *event, const pgq_log_field *fields,
                  size_t count)
{
    run_log *l = log;

    if (l->watch != NULL)
        l->watch(event);
    if ((int)level >= atomic_load(&l->level) || base_streq(event, "worker.state"))
        write_event(l, level, event, fields, count);
}

void run_log_event(run_log *l, pgq_log_level level, const char *event, const pgq_log_field *fields,
                   size_t count)
{
    if ((int)level >= atomic_load(&l->level))
        write_event(l, level, event, fields, count);
}

/* The level as the file says it now, or the default. */
static pgq_code read_level(const cli *c, pgq_log_level *ret_level, pgq_error *err)
{
    const char *file = cli_text(c, OPT_CONFIG);
    settings fresh;
    pgq_code code = settings_init(&fresh, option_rows, OPTION_COUNT, err);

    if (code == PGQ_OK && file != NULL)
        code = settings_read_file(&fresh, file, err);
    if (code == PGQ_OK)
        code = settings_parse(&fresh, OPT_LOG_LEVEL, err);
    if (code == PGQ_OK)
        (void)log_level_parse(fresh.values[OPT_LOG_LEVEL].text, ret_level);
    settings_release(&fresh);
    return code;
}

pgq_log_level run_log_reload(run_log *l)
{
    pgq_log_level level = (pgq_log_level)atomic_load(&l->level);
    pgq_error err = PGQ_ERROR_INIT;

    if (l->cli->settings.values[OPT_LOG_LEVEL].origin < SETTING_ENVIRONMENT &&
        read_level(l->cli, &level, &err) != PGQ_OK) {
        const pgq_log_field fields[] = {{"error", err.message, 0}, {"where", err.where, 0}};

        run_log_event(l, PGQ_LOG_ERROR, "settings.refused", fields, BASE_COUNT(fields));
        return level;
    }
    {
        const pgq_log_field fields[] = {{"log_level", log_level_name(level), 0}};

        atomic_store(&l->level, (int)level);
        run_log_event(l, PGQ_LOG_INFO, "settings.reloaded", fields, BASE_COUNT(fields));
    }
    return level;
}
