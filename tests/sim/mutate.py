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
    "answer_never_given_up": (
        "engine_lane.c", "a lane waits for ever for an answer that does not come",
        "    return lane->late_us != 0 ? lane->late_us + LATE_US : lane->heard_us + lane->patience_us;",
        "    (void)lane;\n    return CLOCK_NEVER;"),
    "settle_forgotten": (
        "engine_reply.c", "outcomes of a refused settle are dropped",
        "    unsettle(e, lane, only->group, only->group);\n    engine_despair_later(e, now_us, lane, &reply->error);\n"
        "    e->settle_not_before_us",
        "    for (size_t i = 0; i < lane->job_count; i++)\n"
        "        engine_forget(e, lane->jobs[i]);\n    e->settle_not_before_us"),
    "settle_lost": (
        "engine_lane.c", "a settle whose connection was lost counts as done",
        "                engine_finish_again(e, job);\n            else",
        "                engine_forget(e, job);\n            else"),
    "adopt_never": (
        "engine_lane.c", "jobs of a claim whose reply was lost are left alone",
        "            e->adopt_wanted = true;\n            e->adopt_at_us = 0;\n            engine_add_ghost",
        "            e->adopt_wanted = false;\n            engine_add_ghost"),
    "back_unseen": (
        "engine_reply.c", "a job that went back unseen, and may be lost with a claim, is not adopted",
        "void engine_back_unseen(engine *e)\n{\n    e->adopt_wanted = true;\n    e->adopt_at_us = 0;\n",
        "void engine_back_unseen(engine *e)\n{\n"),
    "adopt_beside": (
        "engine_claim.c", "adopting while another claim is under way",
        "        engine_outstanding(e, true) > 0 || anything_undecided(e))",
        "        anything_undecided(e))"),
    "beat_finished_only": (
        "engine_plan.c", "no heartbeat for jobs that are with the pool",
        "            if (job->lost || job->lease != NULL || job->orphan)\n",
        "            if (job->lost || job->lease != NULL || job->orphan || job->state == JOB_HANDED)\n"),
    "beat_handed_only": (
        "engine_plan.c", "no heartbeat for jobs that wait to be settled",
        "            if (job->lost || job->lease != NULL || job->orphan)\n",
        "            if (job->lost || job->lease != NULL || job->orphan || job->state != JOB_HANDED)\n"),
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
        "            if (!job->lost)\n                known[count++]",
        "            if (!job->lost && job->state < JOB_FINISHED)\n                known[count++]"),
    "known_with_lost": (
        "engine_claim.c", "an adoption passes over what was lost and still runs",
        "            if (!job->lost)\n                known[count++]",
        "            known[count++]"),
    "retry_unexpected": (
        "engine_reply.c", "nothing wakes the worker for its own retry",
        "        expect_retry(e, now_us, job);",
        "        (void)expect_retry;"),
    "wake_overlooked": (
        "engine_reply.c", "a notification during a claim is taken for one before it",
        "    engine_side_ate(e, &e->rows, lane->wakes_seen);",
        "    engine_side_ate(e, &e->rows, e->wakes);"),
    "poll_put_off": (
        "engine_probe.c", "a probe puts off the wake-up for a retry",
        "    e->poll_at_us = base_min_i64(e->poll_at_us, now_us + base_max_i64(wait_us, 1000));",
        "    e->poll_at_us = now_us + base_max_i64(wait_us, 1000);"),
    "deferred_overlooked": (
        "engine_probe.c", "nothing wakes the worker for a deferred job",
        "    return base_min_i64(wait_us, reply->next_due_us);",
        "    return wait_us;"),
    "stale_overlooked": (
        "engine_claim.c", "jobs of silent workers are not taken over",
        "    bool stale = now_us >= e->stale_look_at_us, fresh",
        "    bool stale = false, fresh"),
    "release_forgotten": (
        "engine_plan.c", "jobs that were revoked at a stop are not given back",
        "    else if (e->jobs[JOB_GIVEN].count > 0 && now_us >= e->release_not_before_us)\n        add_release(e, lane);",
        "    else if (e->jobs[JOB_GIVEN].count > 0 && e->state == ENGINE_STOPPING)\n"
        "        engine_forget(e, LIST_ENTRY(e->jobs[JOB_GIVEN].first, engine_job, link));"),
    "give_back_forgotten": (
        "engine_plan.c", "a stopping worker leaves what a lost claim took",
        "        plan_give_back(e, now_us);\n",
        "        e->adopt_wanted = false, plan_end(e, now_us);\n"),
    "uncertain_ignored": (
        "engine_reply.c", "a settle that found nothing is sent again for ever",
        "            engine_settled_nothing(e, lane->jobs[place]);\n        }\n    }",
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
        "engine_probe.c", "a drain believes an old probe",
        "    e->queue_empty = current && !reply->queued;",
        "    e->queue_empty |= current && !reply->queued;"),
    "drain_early": (
        "engine_plan.c", "a drain ends although a job is deferred",
        "    return !engine_hungry(e) && (e->queue_empty ||",
        "    return !engine_hungry(e) && (true ||"),
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
        "        return !engine_hungry(e);"),
    "bad_row_in_front": (
        "engine_reply.c", "a row that is always refused goes before all others",
        "    if (!again) {\n        bad_row(",
        "    if (false) {\n        bad_row("),
    "backoff_none": (
        "engine_reply.c", "a refused settle is said again at once",
        "    e->settle_not_before_us = now_us + backoff_next(&e->refusal_backoff, &e->random);",
        "    e->settle_not_before_us = now_us;"),
    "look_again_none": (
        "engine_probe.c", "locked rows are polled without a pause",
        "        wait_us = base_min_i64(wait_us, e->look_again_us);",
        "        wait_us = 0;"),
    "away_never": (
        "engine_lane.c", "a stopping worker waits for a lost database for ever",
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
        "engine_probe.c", "a probe forgets that a seat is wanted",
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
        "engine_probe.c", "different limits are said again and again",
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
        "    else if (job->cancelled)\n        finish_cancelled(e, now_us, job);\n    else if (job->lease",
        "    else if (job->lease"),
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
        "engine_refusal.c", "a cancelled job whose text is refused becomes an exception",
        "    if (!text && job->outcome.status != PGQ_STATUS_CANCELED)",
        "    if (!text || job->outcome.status == PGQ_STATUS_CANCELED)"),
    "text_refused_status": (
        "engine_refusal.c", "a job whose text is refused becomes an exception",
        "    if (!text && job->outcome.status != PGQ_STATUS_CANCELED)",
        "    if (job->outcome.status != PGQ_STATUS_CANCELED)"),
    "blamed_at_once": (
        "engine_refusal.c", "a job fails as soon as its outcome is refused alone",
        "    return job->blame >= BLAME_MIN;", "    return true;"),
    "blamed_for_all": (
        "engine_refusal.c", "a job fails that is refused as all others are",
        "    if (!fortune->several && (others || job->blame > 0))",
        "    (void)others;\n    if (true)"),
    "text_kept": (
        "engine_refusal.c", "a text that is refused is never replaced",
        "    text = job->outcome.text != NULL && !tried;",
        "    text = false;"),
    "put_off_for_ever": (
        "engine_orphan.c", "an orphan that is put off has no turn again",
        "    if (now_us < e->orphans_again_us)\n        return;\n",
        "    if (e->orphans_again_us != 0)\n        return;\n"),
    "put_off_once": (
        "engine_orphan.c", "of the groups that are put off only the first has its turn",
        "    if (more)\n        e->orphans_again_us",
        "    if (false && more)\n        e->orphans_again_us"),
    "locked_together": (
        "engine_orphan.c", "a resolve that has met a lock is said again as it was",
        "        lane->jobs[i]->group = i < half ? e->groups - 1 : e->groups;\n"
        "        lane->jobs[i]->put_off",
        "        lane->jobs[i]->group = e->groups + (half > SIZE_MAX / 2);\n"
        "        lane->jobs[i]->put_off"),
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
        "    if (room == 0 && engine_free_threads(e) == 0) {",
        "    if (false) {"),
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
        "        if (job->place == PLACE_RESTING || job->dropped) {\n"
        "            engine_give_back(e, now_us, job);\n            break;\n",
        "        if (job->place == PLACE_RESTING || job->dropped) {\n            break;\n"),
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
    # leases
    "commit_refused_ignored": (
        "engine_lease.c", "what a lease wrote counts although its COMMIT was refused",
        "    if (reply->refused || lane->lease.failed) {",
        "    if (lane->lease.failed) {"),
    "conclude_unfenced": (
        "engine_lease.c", "a lease is concluded before its revocations are decided",
        "    (void)engine_act(e, ACTION_FENCE);\n    return false;",
        "    (void)engine_act(e, ACTION_FENCE);\n    return true;"),
    "conclude_unrevoked": (
        "engine_lease.c", "jobs that have not started are not revoked when their lease ends",
        "            engine_revoke(e, job);\n    }\n    lease->fence",
        "            (void)engine_revoke;\n    }\n    lease->fence"),
    "lease_overrun": (
        "engine_lease.c", "a lease is not ended at its deadline",
        "        return base_min_i64(lane->lease.until_us, lane->lease.stirred_us + CROWDED_US);\n"
        "    return lane->lease.until_us;",
        "        return base_min_i64(lane->lease.until_us, lane->lease.stirred_us + CROWDED_US);\n"
        "    return lane->lease.until_us + 1000000;"),
    "lease_held_short": (
        "engine_lease.c", "the server ends a session sooner than its lease",
        "    int64_t least_us = base_max_i64(HOLD_LEASES * e->config.lease_us, HOLD_MIN_US);",
        "    int64_t least_us = e->config.lease_us;"),
    "outcome_out_of_lease": (
        "engine_lease.c", "a lease ends without its outcomes when nothing of it runs",
        "    if (lease->jobs.count > 0 && !lease->failed)",
        "    if (lease->handed > 0 && !lease->failed)"),
    "running_out_of_lease": (
        "engine_lease.c", "a lease ends and leaves out what still runs",
        "        lane->lease_items[lane->lease_count] = engine_item_of(job, ends);",
        "        if (!ends)\n            continue;\n"
        "        lane->lease_items[lane->lease_count] = engine_item_of(job, ends);"),
    "demoted_old_token": (
        "engine_lease.c", "a job that runs on as a picked one keeps its old token",
        "    job->token.updated = job->stamp;\n",
        ""),
    "demoted_unkept": (
        "engine_lease.c", "nobody says that a claim is a picked row's now",
        "    if (job->body != NULL) {\n        action = engine_act(e, ACTION_KEEP);",
        "    if (false) {\n        action = engine_act(e, ACTION_KEEP);"),
    "announce_missing": (
        "engine_lease.c", "jobs that a lease leaves unstarted are not announced",
        "    if (lease->released) {\n        (void)engine_add_sentence",
        "    if (false) {\n        (void)engine_add_sentence"),
    "announce_before_commit": (
        "engine_lease.c", "jobs are announced before they are free",
        "    (void)engine_add_sentence(lane, SENTENCE_COMMIT);\n    if (lease->released) {\n"
        "        (void)engine_add_sentence(lane, SENTENCE_ANNOUNCE);\n",
        "    if (lease->released)\n        (void)engine_add_sentence(lane, SENTENCE_ANNOUNCE);\n"
        "    (void)engine_add_sentence(lane, SENTENCE_COMMIT);\n    if (lease->released) {\n"),
    "lease_texts_unbounded": (
        "engine_lease.c", "a conclusion takes texts without a limit",
        "        ends = ends && (bytes <= ENGINE_SETTLE_TEXT_BYTES || job->outcome.text_bytes == 0);\n",
        ""),
    "leased_in_stop": (
        "engine_lease.c", "a stopping worker leases",
        "    if (e->state != ENGINE_RUNNING || e->config.only_job != 0 || !e->leases.hungry ||",
        "    if (e->config.only_job != 0 || !e->leases.hungry ||"),
    "leased_without_thread": (
        "engine_lease.c", "jobs are leased while picked ones have all threads",
        "    return e->jobs[JOB_HANDED].count >= leased + engine_free_threads(e);",
        "    return e->jobs[JOB_HANDED].count > leased + 1000000;"),
    "lease_behind_probe": (
        "engine_plan.c", "an idle lane says its ping in the transaction of a lease",
        "    if (lane->lease.open && !engine_end_lease(e, now_us, lane))\n        return;\n",
        "    if (lane->lease.open && !engine_end_lease(e, now_us, lane) &&\n"
        "        !ping_due(e, now_us, lane))\n        return;\n"),
    "beat_leased": (
        "engine_plan.c", "leased jobs are beaten for",
        "            if (job->lost || job->lease != NULL || job->orphan)\n",
        "            if (job->lost)\n"),
    # lost leases
    "orphan_dropped": (
        "engine_orphan.c", "the outcomes of a lost lease are dropped",
        "        engine_leave_lease(job);\n        job->orphan = true;\n        e->orphans++;\n",
        "        engine_leave_lease(job);\n        if (job->state == JOB_DONE) {\n"
        "            engine_forget(e, job);\n            continue;\n        }\n"
        "        job->orphan = true;\n        e->orphans++;\n"),
    "orphan_settled": (
        "engine_job.c", "the outcome of an orphan is settled as a picked job's",
        "    engine_move(e, job, job->orphan ? JOB_DONE : JOB_FINISHED);",
        "    engine_move(e, job, JOB_FINISHED);"),
    "orphan_refused_left": (
        "engine_reply.c", "a job whose outcome is always refused is left to all workers in turn",
        "    if (job->orphan) { /* as it is,",
        "    if (false) { /* as it is,"),
    "orphan_unrevoked": (
        "engine_orphan.c", "jobs of a lost lease may be started yet",
        "                 !job->dropped)\n            engine_revoke(e, job);",
        "                 !job->dropped)\n            (void)engine_revoke;"),
    "orphan_certain": (
        "engine_orphan.c", "nobody remembers that the end of a lost lease may have been written",
        "        if (sent)\n            doubt(job);\n        if (job->state == JOB_SETTLING)\n"
        "            engine_finish_again(e, job);\n        else if",
        "        (void)sent;\n        if (job->state == JOB_SETTLING)\n"
        "            engine_finish_again(e, job);\n        else if"),
    "orphan_unfenced": (
        "engine_orphan.c", "a resolve does not wait for the revocations",
        "           e->fences_heard >= e->orphan_fence && ",
        "           "),
    "orphan_running_left": (
        "engine_orphan.c", "a running job of a lost lease is not secured",
        "    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next) {\n"
        "        engine_job *job = LIST_ENTRY(link, engine_job, link);\n\n"
        "        if (job->orphan && !job->moving && !job->put_off)\n            return job;\n",
        "    for (list_link *link = e->jobs[JOB_HANDED].first; link != NULL; link = link->next) {\n"
        "        engine_job *job = LIST_ENTRY(link, engine_job, link);\n\n"
        "        if (false)\n            return job;\n"),
    "resolve_refused_moving": (
        "engine_orphan.c", "a resolve of running jobs that was refused is never said again",
        "        engine_unresolve(e, lane, false);\n",
        "        lane->job_count = 0;\n"),
    "resolve_lost_certain": (
        "engine_orphan.c", "nobody remembers that a resolve without an answer may have been written",
        "        if (sent)\n            doubt(job);\n        if (job->state == JOB_SETTLING)\n"
        "            engine_finish_again(e, job);\n        stand_still",
        "        (void)sent;\n        if (job->state == JOB_SETTLING)\n"
        "            engine_finish_again(e, job);\n        stand_still"),
    "second_record": (
        "engine_reply.c", "a job that comes back is begun beside its record",
        "        if (!take_back(e, now_us, lane, leased, row))\n",
        "        if (take_back == NULL || true)\n"),
    "back_unmatched": (
        "engine_reply.c", "a job that comes back is its old record's, whoever has tried it",
        "    bool same = job != NULL && job->attempts == row->attempts &&\n"
        "                (!leased || job->token.updated == row->token.updated);",
        "    bool same = job != NULL;"),
    # which lane
    "limited_leased": (
        "engine_side.c", "an entrypoint with a limit is leased",
        "    if (entry->lane == PGQ_LANE_ROW || entry->limit > 0 ||",
        "    if (entry->lane == PGQ_LANE_ROW ||"),
    "row_lane_leased": (
        "engine_side.c", "an entrypoint that is to use the row lane is leased",
        "    if (entry->lane == PGQ_LANE_ROW || entry->limit > 0 ||",
        "    if (entry->limit > 0 ||"),
    "survey_unheeded": (
        "engine_side.c", "an entrypoint that others limit is leased",
        "    if (!e->surveyed || bucket->limited_elsewhere ||",
        "    if (!e->surveyed ||"),
    "survey_not_awaited": (
        "engine_side.c", "jobs are leased before anybody has looked at others' limits",
        "    if (!e->surveyed || bucket->limited_elsewhere ||",
        "    if (bucket->limited_elsewhere ||"),
    "survey_refused": (
        "engine_probe.c", "a survey that was refused counts as an answer",
        "        e->survey_at_us = now_us + SURVEY_AGAIN_US;\n        return;\n",
        "        e->surveyed = true;\n        engine_learn_sides(e);\n        return;\n"),
    # large jobs, cursors
    "large_forgotten": (
        "engine_lease.c", "a job whose payload was left behind is not claimed",
        "        remember_large(e, lane, &reply->rows[i]);\n",
        "        (void)remember_large;\n"),
    "large_again": (
        "engine_lease.c", "a large job is leased again while it waits to be claimed",
        "    for (size_t i = 0; i < e->large_count; i++)\n        ids[count++] = e->large[i];\n",
        ""),
    "sweep_never": (
        "engine_cursor.c", "what lies in front of the cursors is never looked for",
        "    bool due = sweep_is_due(e, now_us, s);",
        "    bool due = e->swept_us == 0 && sweep_is_due(e, now_us, s);\n\n    if (!due)\n        e->sweep_cost_us = SWEEP_CHEAP_US;"),
    "lease_looks_once": (
        "engine_reply.c", "a wake-up during a lease's claim is taken for one before it",
        "    e->stale_hungry = e->wakes != lane->wakes_seen;\n",
        "    e->stale_hungry = e->wakes != lane->wakes_seen;\n    e->leases.hungry = false;\n"),
    "lease_wait_uncounted": (
        "engine_plan.c", "what a flight has so far does not count as under way",
        "        if (at->lane > 0 && lane->answered",
        "        if (at->lane > 0 && lane->state == LANE_FLYING && lane->answered"),
    "rest_in_ending": (
        "engine_job.c", "a resting job is started while its lease ends",
        "job->orphan || (job->lease != NULL && job->lease->lease.ending))) {",
        "job->orphan)) {"),
    "lease_unfolded": (
        "engine_lease.c", "what leases write is never folded",
        "        engine_release_brake(e);\n        engine_fold_wanted(e);\n",
        "        engine_release_brake(e);\n"),
    # the pace
    "pace_sleeps": (
        "engine_plan.c", "nothing wakes a lane that rests beside others",
        "    at = base_min_i64(at, e->pace.look_at_us);\n",
        ""),
    "pace_never_again": (
        "engine_pace.c", "a pause has no end",
        "        p->again_us = now_us + base_min_i64(pause_us, PAUSE_MAX_US);",
        "        p->again_us = CLOCK_NEVER;"),
    # the log
    "fold_once_lost": (
        "engine_fold.c", "a fold whose connection was lost is the last one",
        "    e->folds[kind].at_us = now_us + interval_us(e, kind);\n",
        ""),
    "fold_overtaken": (
        "engine_fold.c", "what is settled during a fold is never folded",
        "    if ((reply->refused || full) && fold->rounds == 0)",
        "    fold->rounds = 0;\n    if (reply->refused || full)"),
    "done_never_told": (
        "engine_event.c", "no event says that the jobs of a backlog are done",
        "    e->done_untold |= lane->lease.untold;\n",
        "    (void)e;\n    (void)lane;\n"),
    "fold_beside": (
        "engine_fold.c", "the log and the counts are folded at one time",
        "    if (engine_any_said(e, SENTENCE_AGGREGATE))\n        return FOLD_KINDS;\n",
        ""),
    "brake_never": (
        "engine_lease.c", "jobs are leased and run while none of them can be written",
        "    e->braked = true;\n",
        ""),
    "brake_for_others": (
        "engine_job.c", "what was leased before it was known to be in vain is begun",
        "exhausted(e) || vain) {",
        "exhausted(e)) {\n        (void)vain;"),
    "brake_for_good": (
        "engine_lease.c", "a worker that could not write leases no more",
        "    return e->braked && (now_us <",
        "    return e->braked && (true || now_us <"),
    "release_once": (
        "engine_reply.c", "jobs whose release is refused for a moment are left picked",
        "    if (release_again(e, now_us, lane, reply))\n        return;\n",
        "    (void)release_again;\n"),
    "unsettled_waited_for": (
        "engine_unsettled.c", "a stop does not end while one outcome is refused",
        "    return e->state == ENGINE_STOPPING ? count_hopeless(e, NULL) : count_refused(e);",
        "    (void)count_refused;\n    return 0;"),
    "unsettled_at_once": (
        "engine_unsettled.c", "a stop does not wait for what may be mended",
        "    if (now_us < e->unwritten_since_us + UNWRITTEN_US)\n        return;\n",
        ""),
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
