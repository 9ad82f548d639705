/* The options of the program, one row each. A new option is one name here, one row in options.c,
 * and its place in the commands that take it (commands.c). */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/settings.h"

typedef enum option_group {
    GROUP_GLOBAL,     /* every command */
    GROUP_CONNECTION, /* commands that connect */
    GROUP_NAMES,      /* commands that name database objects */
    GROUP_COMMAND     /* commands that list the option */
} option_group;

typedef enum option_id {
    OPT_HELP,
    OPT_VERSION,
    OPT_CONFIG,
    OPT_DSN,
    OPT_HOST,
    OPT_PORT,
    OPT_USER,
    OPT_DATABASE,
    OPT_PASSWORD,
    OPT_CONNECT_TIMEOUT,
    OPT_APPLICATION_NAME,
    OPT_PREFIX,
    OPT_SCHEMA,
    OPT_CHANNEL,
    OPT_FUNCTION,
    OPT_TRIGGER,
    OPT_QUEUE_TABLE,
    OPT_LOG_TABLE,
    OPT_STATISTICS_TABLE,
    OPT_SCHEDULES_TABLE,
    OPT_STATUS_TYPE,
    OPT_DURABILITY,
    OPT_CREATE_SCHEMA,
    OPT_EXTRAS,
    OPT_EXPECT,
    OPT_ROLLBACK,
    OPT_PLAN,
    OPT_WIDEN_ID,
    OPT_LOCK_TIMEOUT,
    OPT_PATIENCE,
    OPT_PRIORITY,
    OPT_DELAY,
    OPT_AT,
    OPT_HEADERS,
    OPT_DEDUPE_KEY,
    OPT_ON_CONFLICT,
    OPT_COUNT,
    OPT_ENTRYPOINT,
    OPT_FORMAT,
    OPT_REJECTS,
    OPT_IMPORT_NAME,
    OPT_RESUME,
    OPT_AGAIN,
    OPT_BATCH_SIZE,
    OPT_THREADS,
    OPT_LANES,
    OPT_LANE,
    OPT_LEASE,
    OPT_LOG_POLICY,
    OPT_DEQUEUE_TIMEOUT,
    OPT_HEARTBEAT_TIMEOUT,
    OPT_DRAIN_TIMEOUT,
    OPT_MODE,
    OPT_MAX_CONCURRENT_TASKS,
    OPT_SHUTDOWN_ON_LISTENER_FAILURE,
    OPT_HEALTH_CHECK_INTERVAL,
    OPT_HEALTH_CHECK_TIMEOUT,
    OPT_LOG_AGGREGATION_INTERVAL,
    OPT_PROCESSES,
    OPT_RESTART_ON_FAILURE,
    OPT_RESTART_DELAY,
    OPT_CRASH_LIMIT,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_SERVER_PORT,
    OPT_SHOW_PASSWORD,
    OPT_YES,
    OPT_KEEP,
    OPT_JOBS,
    OPT_ROUNDS,
    OPT_WORKERS,
    OPT_BARE,
    OPT_JSON,
    OPT_OUTPUT,
    OPTION_COUNT,
    OPTION_END = OPTION_COUNT /* ends a command's list */
} option_id;

extern const setting_row option_rows[OPTION_COUNT];

#endif
