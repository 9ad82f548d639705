/* The engine's state, for people. */
#include "worker/engine_internal.h"

void engine_get_report(const engine *e, engine_report *ret_report)
{
    static const char *const states[] = {"new", "starting", "running", "stopping", "finished"};
    static const char *const listeners[] = {"down", "healthy", "suspect", "failed"};

    *ret_report = (engine_report){
        .state = states[e->state],
        .listener = listeners[e->listener],
        .waiting_or_running = e->jobs[JOB_HANDED].count - e->away,
        .parked = e->away,
        .finished = e->jobs[JOB_FINISHED].count + e->jobs[JOB_DONE].count,
        .settling = e->jobs[JOB_SETTLING].count,
        .refused = e->jobs[JOB_REFUSED].count,
        .releasing = e->jobs[JOB_GIVEN].count + e->jobs[JOB_RELEASING].count,
        .stragglers = e->stragglers,
        .lanes = e->lane_count,
        .hungry = engine_hungry(e),
        .backlog = e->rows.backlog || e->leases.backlog,
        .leasing = (int)e->leases.entrypoints,
    };
    for (int i = 0; i < e->lane_count; i++) {
        ret_report->lanes_up += e->lanes[i].state >= LANE_IDLE;
        ret_report->leased += e->lanes[i].lease.jobs.count;
    }
}
