#include "queue/event.h"

#include <jansson.h>

/* A table change wakes a worker, but for a deletion: that is somebody's settle. */
static event_kind read_table_change(const json_t *event)
{
    const char *operation = json_string_value(json_object_get(event, "operation"));

    if (operation == NULL || base_streq(operation, "delete"))
        return EVENT_NOTHING;
    return EVENT_WORK;
}

event_kind event_read(const char *payload)
{
    json_t *event = json_loads(payload, JSON_DECODE_INT_AS_REAL, NULL);
    const char *type = json_string_value(json_object_get(event, "type"));
    event_kind kind = EVENT_NOTHING;

    if (type != NULL && base_streq(type, "table_changed_event"))
        kind = read_table_change(event);
    json_decref(event);
    return kind;
}
