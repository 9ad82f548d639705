#!/usr/bin/env python3
"""Writes a copy of an engine file with one fault in it.

    mutate.py MUTANT SOURCE OUTPUT

The simulator is built with the copy and has to find the fault. The old text must occur exactly
once in the source; where it does not, because the engine was rewritten, the copy is a program that
says so and fails: change the row below, do not drop it.
"""

import sys
from pathlib import Path

# mutant: (what is wrong, old text, new text)
MUTANTS = {
    "settle_forgotten": (
        "outcomes of a refused settle are dropped",
        "    unsettle(e, lane, only->group, only->group);\n    e->settle_not_before_us",
        "    for (size_t i = 0; i < lane->job_count; i++)\n"
        "        engine_forget(e, lane->jobs[i]);\n    e->settle_not_before_us"),
    "settle_lost": (
        "a settle whose connection was lost counts as done",
        "engine_move(e, job, kind == SENTENCE_SETTLE ? JOB_FINISHED : JOB_GIVEN);",
        "engine_forget(e, job);"),
    "adopt_never": (
        "jobs of a claim whose reply was lost are left alone",
        "            e->adopt_wanted = true;\n        if (kind == SENTENCE_PROBE) {",
        "            e->adopt_wanted = false;\n        if (kind == SENTENCE_PROBE) {"),
    "adopt_beside": (
        "adopting while another claim is under way",
        "        return under_way == 0",
        "        return true"),
    "beat_finished_only": (
        "no heartbeat for jobs that are with the pool",
        "            if (job->lost)\n                continue;\n            lane->beat_tokens",
        "            if (job->lost || job->state == JOB_HANDED)\n"
        "                continue;\n            lane->beat_tokens"),
    "beat_handed_only": (
        "no heartbeat for jobs that wait to be settled",
        "            if (job->lost)\n                continue;\n            lane->beat_tokens",
        "            if (job->lost || job->state != JOB_HANDED)\n"
        "                continue;\n            lane->beat_tokens"),
    "beat_late": (
        "heartbeats are as far apart as the heartbeat timeout",
        "e->beat_at_us = now_us + e->config.heartbeat_timeout_us / 2;",
        "e->beat_at_us = now_us + e->config.heartbeat_timeout_us;"),
    "beat_given_up": (
        "a refused beat is not repeated before the next is due",
        "        e->beat_at_us = base_min_i64(e->beat_at_us,",
        "        (void)base_min_i64(e->beat_at_us,"),
    "known_without_waiting": (
        "a stale look does not spare the jobs that wait to be settled",
        "    for (int state = JOB_HANDED; state < JOB_STATES; state++) {\n"
        "        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next)\n"
        "            known[count++]",
        "    for (int state = JOB_HANDED; state < JOB_FINISHED; state++) {\n"
        "        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next)\n"
        "            known[count++]"),
    "retry_unexpected": (
        "nothing wakes the worker for its own retry",
        "                expect_retry(e, now_us, lane->jobs[place]);",
        "                (void)expect_retry;"),
    "wake_overlooked": (
        "a notification during a claim is taken for one before it",
        "    e->hungry = e->wakes != lane->wakes_seen;",
        "    e->hungry = false;"),
    "poll_put_off": (
        "a probe puts off the wake-up for a retry",
        "    e->poll_at_us = base_min_i64(e->poll_at_us, now_us + base_max_i64(wait_us, 1000));",
        "    e->poll_at_us = now_us + base_max_i64(wait_us, 1000);"),
    "deferred_overlooked": (
        "nothing wakes the worker for a deferred job",
        "    return base_min_i64(wait_us, reply->next_due_us);",
        "    return wait_us;"),
    "stale_overlooked": (
        "jobs of silent workers are not taken over",
        "    bool look_for_stale = now_us >= e->stale_look_at_us || e->adopt_wanted;",
        "    bool look_for_stale = e->adopt_wanted;"),
    "release_forgotten": (
        "jobs that were revoked at a stop are not given back",
        "    else if (e->jobs[JOB_GIVEN].count > 0)\n        add_release(e, lane);",
        "    else if (e->jobs[JOB_GIVEN].count > 0 && e->state == ENGINE_STOPPING)\n"
        "        engine_forget(e, LIST_ENTRY(e->jobs[JOB_GIVEN].first, engine_job, link));"),
    "give_back_forgotten": (
        "a stopping worker leaves what a lost claim took",
        "    else if (e->state == ENGINE_STOPPING && e->adopt_wanted)\n        plan_give_back(e);",
        "    else if (e->state == ENGINE_STOPPING && e->adopt_wanted)\n"
        "        e->adopt_wanted = false, plan_end(e, now_us);"),
    "uncertain_ignored": (
        "a settle that found nothing is sent again for ever",
        "            settled_nothing(e, lane->jobs[place]);\n        }\n    }",
        "            engine_move(e, lane->jobs[place], JOB_FINISHED);\n        }\n    }"),
    "bisect_never": (
        "one bad row blocks its batch",
        "    if (!again && lane->job_count > 1) {",
        "    if (false) {"),
    "lost_settled": (
        "the outcome of a lost claim is written",
        "    if (job->lost) {\n        engine_forget(e, job);\n    } else {\n        count_outcome",
        "    if (false) {\n        engine_forget(e, job);\n    } else {\n        count_outcome"),
    "lost_started": (
        "a job that waits for a thread when its claim is lost is started",
        "            engine_revoke(e, job); /*",
        "            (void)engine_revoke; /*"),
    "stopped_claims": (
        "a stopping worker starts what a claim brings",
        "    if (row->body == NULL || e->state != ENGINE_RUNNING) {",
        "    if (row->body == NULL) {"),
    "probe_stale_drain": (
        "a drain believes an old probe",
        "    e->queue_empty = !reply->queued && reply",
        "    e->queue_empty |= !reply->queued && reply"),
    "drain_before_retry": (
        "a drain believes a probe that a retry of its own overtook",
        "                     e->requeues == e->probe_requeues;",
        "                     true;"),
    "drain_early": (
        "a drain ends although a job is deferred",
        "e->config.drain && e->queue_empty && !e->hungry",
        "e->config.drain && !e->hungry"),
    "bad_row_in_front": (
        "a row that is always refused goes before all others",
        "    if (!again) {\n        bad_row(",
        "    if (false) {\n        bad_row("),
    "deaf_for_ever": (
        "a LISTEN that was refused is not repeated",
        "        e->lanes[0].listening = e->lanes[0].listening && !e->deaf; /* tries again */\n",
        ""),
    "backoff_none": (
        "a refused settle is said again at once",
        "    e->settle_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);",
        "    e->settle_not_before_us = now_us;"),
    "look_again_none": (
        "locked rows are polled without a pause",
        "        wait_us = base_min_i64(wait_us, e->look_again_us);",
        "        wait_us = 0;"),
    "away_never": (
        "a stopping worker waits for a lost database for ever",
        "        e->away_deadline_us = now_us + AWAY_US;",
        "        e->away_deadline_us = CLOCK_NEVER;"),
}

MISSING = """#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void missing(void)
{{
    (void)puts("tests/sim/mutate.py: the text of {name} occurs {count} times in {file}");
    exit(1);
}}
"""


def main():
    name, source, output = sys.argv[1:]
    text = Path(source).read_text()
    _, old, new = MUTANTS[name]
    count = text.count(old)
    text = text.replace(old, new) if count == 1 else text + MISSING.format(
        name=name, count=count, file=Path(source).name)
    Path(output).write_text(text)


main()
