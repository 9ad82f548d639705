#include "queue/event.h"

#include <jansson.h>

/* Up to here a double holds every whole number. */
static const double exact_max = 9007199254740992.0;

static void read_table_change(const json_t *object, event *e)
{
    const char *operation = json_string_value(json_object_get(object, "operation"));

    if (operation == NULL)
        return;
    e->kind = base_streq(operation, "delete") ? EVENT_FREED : EVENT_WORK;
}

/* What is no number of a job is passed over. */
static void read_ids(const json_t *ids, event *e)
{
    size_t i;
    json_t *id;

    if (!json_is_array(ids))
        return;
    e->kind = EVENT_CANCELLED;
    json_array_foreach(ids, i, id)
    {
        double value = json_real_value(id);

        if (e->id_count == EVENT_IDS_MAX)
            return;
        if (json_is_integer(id))
            e->ids[e->id_count++] = json_integer_value(id);
        else if (json_is_real(id) && value >= 1 && value < exact_max &&
                 (double)(int64_t)value == value)
            e->ids[e->id_count++] = (int64_t)value;
    }
}

/* One number beyond 64 bits makes jansson refuse the whole text; as a double it does not. */
static json_t *load(const char *payload)
{
    json_t *object = json_loads(payload, 0, NULL);

    return object != NULL ? object : json_loads(payload, JSON_DECODE_INT_AS_REAL, NULL);
}

event_kind event_read(const char *payload, event *ret_event)
{
    json_t *object = load(payload);
    const char *type = json_string_value(json_object_get(object, "type"));

    ret_event->kind = EVENT_NOTHING;
    ret_event->id_count = 0;
    if (type != NULL && base_streq(type, "table_changed_event"))
        read_table_change(object, ret_event);
    else if (type != NULL && base_streq(type, "health_check_event"))
        ret_event->kind = EVENT_HEALTH;
    else if (type != NULL && base_streq(type, "cancellation_event"))
        read_ids(json_object_get(object, "ids"), ret_event);
    json_decref(object);
    return ret_event->kind;
}
