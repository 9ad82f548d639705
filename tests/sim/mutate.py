#!/usr/bin/env python3
"""Writes a copy of an engine file with one fault in it.

    mutate.py MUTANT SOURCES OUTPUT
    mutate.py --list

The first one writes the copy of a file in the directory SOURCES, the second one prints each mutant
with its file. The simulator is built with the copy and has to find the fault. The old text must occur exactly
once in the source; where it does not, because the engine was rewritten, the copy is a program that
says so and fails: change the row below, do not drop it.
"""

import sys
from pathlib import Path

# mutant: (file, what is wrong, old text, new text)
MUTANTS = {
    "settle_forgotten": (
        "engine_reply.c", "outcomes of a refused settle are dropped",
        "    unsettle(e, lane, only->group, only->group);\n    e->settle_not_before_us",
        "    for (size_t i = 0; i < lane->job_count; i++)\n"
        "        engine_forget(e, lane->jobs[i]);\n    e->settle_not_before_us"),
    "settle_lost": (
        "engine.c", "a settle whose connection was lost counts as done",
        "                engine_finish_again(e, job);\n            else",
        "                engine_forget(e, job);\n            else"),
    "adopt_never": (
        "engine.c", "jobs of a claim whose reply was lost are left alone",
        "            e->adopt_wanted = true;\n            e->adopt_at_us = 0;\n            engine_add_ghost",
        "            e->adopt_wanted = false;\n            engine_add_ghost"),
    "adopt_beside": (
        "engine_claim.c", "adopting while another claim is under way",
        "        outstanding(e) > 0 || anything_uncertain(e))",
        "        anything_uncertain(e))"),
    "beat_finished_only": (
        "engine_plan.c", "no heartbeat for jobs that are with the pool",
        "            if (job->lost)\n                continue;\n            lane->beat_tokens",
        "            if (job->lost || job->state == JOB_HANDED)\n"
        "                continue;\n            lane->beat_tokens"),
    "beat_handed_only": (
        "engine_plan.c", "no heartbeat for jobs that wait to be settled",
        "            if (job->lost)\n                continue;\n            lane->beat_tokens",
        "            if (job->lost || job->state != JOB_HANDED)\n"
        "                continue;\n            lane->beat_tokens"),
    "beat_late": (
        "engine_plan.c", "heartbeats are as far apart as the heartbeat timeout",
        "e->beat_at_us = now_us + e->silence_us / 2;",
        "e->beat_at_us = now_us + e->silence_us;"),
    "beat_by_the_longest": (
        "engine.c", "heartbeats do not heed a shorter retry timer",
        "        e->silence_us = base_min_i64(e->silence_us, entry->silence_us);\n",
        ""),
    "beat_given_up": (
        "engine_reply.c", "a refused beat is not repeated before the next is due",
        "        e->beat_at_us = base_min_i64(e->beat_at_us,",
        "        (void)base_min_i64(e->beat_at_us,"),
    "known_without_waiting": (
        "engine_claim.c", "a stale look does not spare the jobs that wait to be settled",
        "    for (int state = JOB_HANDED; state < JOB_STATES; state++) {\n"
        "        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next)\n"
        "            known[count++]",
        "    for (int state = JOB_HANDED; state < JOB_FINISHED; state++) {\n"
        "        for (list_link *link = e->jobs[state].first; link != NULL; link = link->next)\n"
        "            known[count++]"),
    "retry_unexpected": (
        "engine_reply.c", "nothing wakes the worker for its own retry",
        "                expect_retry(e, now_us, lane->jobs[place]);",
        "                (void)expect_retry;"),
    "wake_overlooked": (
        "engine_reply.c", "a notification during a claim is taken for one before it",
        "    e->hungry = e->wakes != lane->wakes_seen;",
        "    e->hungry = false;"),
    "poll_put_off": (
        "engine_reply.c", "a probe puts off the wake-up for a retry",
        "    e->poll_at_us = base_min_i64(e->poll_at_us, now_us + base_max_i64(wait_us, 1000));",
        "    e->poll_at_us = now_us + base_max_i64(wait_us, 1000);"),
    "deferred_overlooked": (
        "engine_reply.c", "nothing wakes the worker for a deferred job",
        "    return base_min_i64(wait_us, reply->next_due_us);",
        "    return wait_us;"),
    "stale_overlooked": (
        "engine_claim.c", "jobs of silent workers are not taken over",
        "    bool look_for_stale = now_us >= e->stale_look_at_us;",
        "    bool look_for_stale = false;"),
    "release_forgotten": (
        "engine_plan.c", "jobs that were revoked at a stop are not given back",
        "    else if (e->jobs[JOB_GIVEN].count > 0)\n        add_release(e, lane);",
        "    else if (e->jobs[JOB_GIVEN].count > 0 && e->state == ENGINE_STOPPING)\n"
        "        engine_forget(e, LIST_ENTRY(e->jobs[JOB_GIVEN].first, engine_job, link));"),
    "give_back_forgotten": (
        "engine_plan.c", "a stopping worker leaves what a lost claim took",
        "        plan_give_back(e, now_us);\n",
        "        e->adopt_wanted = false, plan_end(e, now_us);\n"),
    "uncertain_ignored": (
        "engine_reply.c", "a settle that found nothing is sent again for ever",
        "            settled_nothing(e, lane->jobs[place]);\n        }\n    }",
        "            engine_move(e, lane->jobs[place], JOB_FINISHED);\n        }\n    }"),
    "bisect_never": (
        "engine_reply.c", "one bad row blocks its batch",
        "    if (!again && lane->job_count > 1) {",
        "    if (false) {"),
    "lost_settled": (
        "engine_job.c", "the outcome of a lost claim is written",
        "    if (job->lost) {\n        engine_forget(e, job);\n    } else if (job->cancelled) {",
        "    if (false) {\n        engine_forget(e, job);\n    } else if (job->cancelled) {"),
    "lost_started": (
        "engine_reply.c", "a job that waits for a thread when its claim is lost is started",
        "    if (job->place == PLACE_POOL)\n        engine_revoke(e, job);\n",
        "    (void)engine_revoke;\n"),
    "stopped_claims": (
        "engine_job.c", "a stopping worker starts what a claim brings",
        "job->cancelled || e->state != ENGINE_RUNNING || exhausted(e)",
        "job->cancelled || exhausted(e)"),
    "probe_stale_drain": (
        "engine_reply.c", "a drain believes an old probe",
        "    e->queue_empty = current && !reply->queued;",
        "    e->queue_empty |= current && !reply->queued;"),
    "drain_before_retry": (
        "engine_reply.c", "a drain believes a probe that a retry of its own overtook",
        "!e->hungry && e->requeues == e->probe_requeues;",
        "!e->hungry;"),
    "drain_early": (
        "engine_plan.c", "a drain ends although a job is deferred",
        "    return !e->hungry && (e->queue_empty ||",
        "    return !e->hungry && (true ||"),
    "drain_now_early": (
        "engine_plan.c", "a drain of what is due ends although something is",
        "(e->config.drain_now && !e->queue_due)",
        "e->config.drain_now"),
    "drain_adopting": (
        "engine_plan.c", "a drain ends although a lost claim may bring jobs yet",
        "    if (e->adopt_wanted)\n        return false;\n",
        ""),
    "only_hungry": (
        "engine_plan.c", "a worker for one job waits until the queue is empty",
        "        return true; /* whatever else there may be to do */",
        "        return !e->hungry;"),
    "bad_row_in_front": (
        "engine_reply.c", "a row that is always refused goes before all others",
        "    if (!again) {\n        bad_row(",
        "    if (false) {\n        bad_row("),
    "backoff_none": (
        "engine_reply.c", "a refused settle is said again at once",
        "    e->settle_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);",
        "    e->settle_not_before_us = now_us;"),
    "look_again_none": (
        "engine_reply.c", "locked rows are polled without a pause",
        "        wait_us = base_min_i64(wait_us, e->look_again_us);",
        "        wait_us = 0;"),
    "away_never": (
        "engine.c", "a stopping worker waits for a lost database for ever",
        "        e->away_deadline_us = now_us + AWAY_US;",
        "        e->away_deadline_us = CLOCK_NEVER;"),
    "adopt_refused_for_ever": (
        "engine_reply.c", "a stopping worker that may not adopt asks without an end",
        "    if (for_good && e->state == ENGINE_STOPPING) {",
        "    if (false) {"),
    "stop_waits_for_control": (
        "engine_plan.c", "a stopping worker waits for a control connection that is dead",
        "    for (int i = e->state == ENGINE_STOPPING ? 1 : 0; i < e->lane_count; i++) {",
        "    for (int i = 0; i < e->lane_count; i++) {"),
    "hurry_untold": (
        "engine.c", "a hurried worker does not tell its handlers",
        "    engine_tell_all(e, WHY_STOP);\n    e->drain_deadline_us",
        "    e->drain_deadline_us"),
    "hurry_slowly": (
        "engine.c", "a hurried worker waits for its handlers",
        "    e->drain_deadline_us = base_min_i64(e->drain_deadline_us, now_us + HURRY_US);\n",
        ""),
    # limits and rates
    "limit_ungated": (
        "engine.c", "a limited entrypoint is claimed without seats",
        "            entry->limit > 0 || entry->rated ||",
        "            entry->rated ||"),
    "freed_ignored": (
        "engine.c", "a deletion wakes nobody who waits for a seat",
        "    if (!e->slot_wanted)\n        return;",
        "    if (true)\n        return;"),
    "seat_unwanted": (
        "engine_reply.c", "a probe forgets that a seat is wanted",
        "    e->slot_wanted = e->limited && reply->due;",
        "    e->slot_wanted = false;"),
    "contended_fatal": (
        "engine_reply.c", "losing a race for a seat ends the run",
        "    if (reply->class == SQLSTATE_CONTENDED) {",
        "    if (false) {"),
    "held_max_ignored": (
        "engine_claim.c", "max_concurrent_tasks is not kept",
        "    if (held_max > 0 && held + room > held_max)",
        "    if (false)"),
    "ghosts_uncounted": (
        "engine_claim.c", "what a lost claim may bring yet does not count as held",
        "engine_held(e) + under_way + haunted(e);",
        "engine_held(e) + under_way;"),
    "rate_unspent": (
        "engine_claim.c", "a claim takes nothing from its rate",
        "            e->buckets[i].tokens -= most;",
        "            e->buckets[i].tokens -= 0;"),
    "rate_refunded_twice": (
        "engine_claim.c", "a claim gives back what it brought",
        "tokens += share->most - came;",
        "tokens += share->most;"),
    "rate_refund_taken": (
        "engine_claim.c", "a claim takes once more what it did not bring",
        "tokens += share->most - came;",
        "tokens -= share->most - came;"),
    "rate_never_awaited": (
        "engine_claim.c", "nothing wakes the worker when its rate allows more",
        "        e->rate_at_us = base_min_i64(e->rate_at_us, now_us + base_max_i64(1000,",
        "        (void)base_min_i64(e->rate_at_us, now_us + base_max_i64(1000,"),
    "survey_repeated": (
        "engine_reply.c", "different limits are said again and again",
        "        if ((e->buckets[row->entrypoint].noted & bit) != 0)\n            continue;\n",
        ""),
    # lost connections
    "ghosts_forgotten": (
        "engine_reply.c", "a lost connection's backend is thought gone at once",
        "        if ((lives || !asked) && now_us",
        "        if (false && (lives || !asked) && now_us"),
    # cancellation
    "cancel_forgotten": (
        "engine_job.c", "a cancellation that comes before the claim's reply is forgotten",
        "    job->cancelled = remembered(e->cancelled, now_us, row->token.id);",
        "    job->cancelled = false;"),
    "cancelled_started": (
        "engine_job.c", "a job that is known to be cancelled is started",
        "    if (row->body == NULL || job->cancelled ||",
        "    if (row->body == NULL ||"),
    "cancelled_not_revoked": (
        "engine_job.c", "a cancelled job keeps waiting for a thread",
        "        tell(e, job, WHY_CANCELLED);\n        if (job->place == PLACE_POOL)\n"
        "            engine_revoke(e, job);\n",
        "        tell(e, job, WHY_CANCELLED);\n"),
    "cancelled_released": (
        "engine_job.c", "a cancelled job that was revoked goes back to the queue",
        "    else if (job->cancelled)\n        finish_cancelled(e, now_us, job);\n    else\n",
        "    else\n"),
    "cancelled_outcome_kept": (
        "engine_job.c", "a job that was cancelled while it ran ends as its handler says",
        "    } else if (job->cancelled) {\n        finish_cancelled",
        "    } else if (false) {\n        finish_cancelled"),
    "cancelled_retry_waiting": (
        "engine_job.c", "a retry that waits to be written ignores a cancellation",
        "    case JOB_REFUSED:\n        if (job->outcome.status == PGQ_STATUS_QUEUED)\n",
        "    case JOB_REFUSED:\n        if (false)\n"),
    "cancelled_retry_again": (
        "engine_job.c", "a retry that is written again ignores a cancellation",
        "    if (job->cancelled && job->outcome.status == PGQ_STATUS_QUEUED)",
        "    if (false)"),
    "cancelled_text_refused": (
        "engine_reply.c", "a cancelled job whose text is refused becomes an exception",
        "        if (only->outcome.status != PGQ_STATUS_CANCELED)\n",
        ""),
    # timeouts, rests, parking
    "timeout_never": (
        "engine_job.c", "a timeout is never told",
        "    job->alarm_us = now_us + timeout_us;",
        "    job->alarm_us = CLOCK_NEVER;"),
    "timeout_untold": (
        "engine_job.c", "a handler is given up and was not told",
        "    tell(e, job, WHY_TIMEOUT);\n",
        ""),
    "grace_none": (
        "engine_job.c", "a handler has no grace",
        "    job->alarm_us = now_us + entry->grace_us;",
        "    job->alarm_us = now_us;"),
    "timeout_as_cancelled": (
        "engine_job.c", "a job that heeds its timeout is written as cancelled",
        "        if (job->timed_out && outcome->status == PGQ_STATUS_CANCELED) {",
        "        if (false) {"),
    "abandoned_forgotten": (
        "engine_job.c", "the body of a job that was given up is freed under its handler",
        "    job->body = NULL;\n    e->stragglers",
        "    e->stragglers"),
    "straggler_uncounted": (
        "engine_job.c", "a stuck handler does not count against the pool",
        "    e->stragglers += in_thread;\n",
        ""),
    "exhausted_keeps": (
        "engine_job.c", "a worker without a thread keeps what waits for one",
        "    if (in_thread && exhausted(e))\n        revoke_waiting(e);\n",
        "    (void)revoke_waiting;\n"),
    "exhausted_drains": (
        "engine_claim.c", "a drain without a thread does not end with the queue",
        "    if (room == 0 && threads(e) == 0)\n        look_only(e);\n",
        ""),
    "rest_never_over": (
        "engine_job.c", "a resting job is never started again",
        "    job->alarm_us = now_us + delay_us;",
        "    job->alarm_us = CLOCK_NEVER;"),
    "rest_outlives_stop": (
        "engine.c", "a stopping worker waits for its resting jobs",
        "        else if (job->place == PLACE_RESTING)\n            engine_give_back(e, now_us, job);\n",
        ""),
    "rest_outlives_cancel": (
        "engine_job.c", "a resting job that is cancelled is started again",
        "        if (job->place == PLACE_RESTING) {\n            engine_give_back(e, now_us, job);\n"
        "            break;\n",
        "        if (job->place == PLACE_RESTING) {\n            break;\n"),
    "parked_busy": (
        "engine_claim.c", "a parked job counts against the threads",
        "    size_t busy = e->jobs[JOB_HANDED].count - e->away, have",
        "    size_t busy = e->jobs[JOB_HANDED].count, have"),
    # the listener
    "settle_unbounded": (
        "engine_plan.c", "a settle takes texts without a limit",
        "bytes > ENGINE_SETTLE_TEXT_BYTES",
        "bytes > 1000 * (size_t)ENGINE_SETTLE_TEXT_BYTES"),
    "ping_never": (
        "engine_plan.c", "the listener is never probed",
        "    e->ping_at_us = now_us + e->config.probe_interval_us;\n",
        "    lane->flight.count--;\n    e->ping_at_us = now_us + e->config.probe_interval_us;\n"
        "    return;\n"),
    "deaf_never_found": (
        "engine_listen.c", "a probe that does not come back is forgotten",
        "        probe_unanswered(e, now_us);\n",
        "        e->ping_deadline_us = probe_unanswered != NULL ? CLOCK_NEVER : 0;\n"),
    "suspect_none": (
        "engine_listen.c", "a listener is thought deaf before its socket was read",
        "    if (e->listener == LISTENER_HEALTHY || e->listener == LISTENER_DOWN) {",
        "    if (false) {"),
    "listener_never_rebuilt": (
        "engine_listen.c", "a deaf listener keeps its connection",
        "    engine_act(e, ACTION_CLOSE)->lane = 0;\n    engine_lane_down(e, now_us, 0);\n",
        ""),
    "listen_untimed": (
        "engine_plan.c", "a connection that is dead before it listens is not found out",
        "    if (e->state == ENGINE_RUNNING) /* it has",
        "    if (false) /* it has"),
    "end_when_deaf_ignored": (
        "engine_listen.c", "a deaf listener does not end the run that is to end so",
        "    if (e->config.end_when_deaf && !e->config.drain)\n        engine_fail(e, now_us, error);\n",
        ""),
    # the log
    "fold_once_lost": (
        "engine.c", "a fold whose connection was lost is the last one",
        "            e->aggregate_at_us = now_us + e->config.aggregate_interval_us;\n",
        ""),
    "fold_overtaken": (
        "engine_reply.c", "what is settled during a fold is never folded",
        "    e->settled_since |= reply->refused || full;",
        "    e->settled_since = reply->refused || full;"),
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
    if sys.argv[1:] == ["--list"]:
        for name, row in MUTANTS.items():
            print(name, row[0])
        return
    name, sources, output = sys.argv[1:]
    file, _, old, new = MUTANTS[name]
    text = (Path(sources) / file).read_text()
    count = text.count(old)
    text = text.replace(old, new) if count == 1 else text + MISSING.format(
        name=name, count=count, file=file)
    Path(output).write_text(text)


main()
