/* The records of jobs, found by their ids. Those of a claim follow each other, and so do their
 * places; a step between all ids, as of a sequence that several servers share, must not make their
 * places the same. */
#include "worker/engine_internal.h"

#include <stdlib.h>

static engine_job **place_of(const engine *e, int64_t id)
{
    uint64_t bits = (uint64_t)id;

    return &e->by_id[(bits ^ bits >> e->by_id_bits ^ bits >> (2 * e->by_id_bits)) &
                     (((uint64_t)1 << e->by_id_bits) - 1)];
}

bool engine_records_new(engine *e)
{
    size_t size = 2;

    for (e->by_id_bits = 1; size < e->capacity; size *= 2)
        e->by_id_bits++;
    e->by_id = calloc(size, sizeof(engine_job *));
    return e->by_id != NULL;
}

void engine_record_add(engine *e, engine_job *job)
{
    engine_job **place = place_of(e, job->token.id);

    job->same_place = *place;
    *place = job;
}

void engine_record_remove(engine *e, engine_job *job)
{
    engine_job **at = place_of(e, job->token.id);

    while (*at != job)
        at = &(*at)->same_place;
    *at = job->same_place;
}

engine_job *engine_leased_of(const engine *e, int64_t id)
{
    for (engine_job *job = *place_of(e, id); job != NULL; job = job->same_place) {
        if (job->token.id == id && (job->orphan || job->lease != NULL))
            return job;
    }
    return NULL;
}
