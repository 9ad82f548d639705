/* The inside of the engine: what its files offer each other. docs/internals/worker.md says what
 * each engine_*.c owns. */
#ifndef WORKER_ENGINE_INTERNAL_H
#define WORKER_ENGINE_INTERNAL_H

#include "worker/engine_state.h"

/* There may be due jobs that nobody has claimed, on any lane. */
static inline bool engine_hungry(const engine *e)
{
    return e->rows.hungry || e->leases.hungry;
}

/* A claim came back short: only what has been said since makes hungry again. */
static inline void engine_side_ate(engine *e, engine_side *side, uint64_t wakes_seen)
{
    side->hungry = side->entrypoints > 0 && e->wakes != wakes_seen;
    e->probe_wanted = true;
}

/* engine.c */
void engine_move(engine *e, engine_job *job, job_state state);
engine_action *engine_act(engine *e, engine_action_kind kind);
void engine_say(engine *e, engine_note_kind kind, int lane, int64_t job_id, int64_t number,
                const pgq_error *error);
void engine_forget(engine *e, engine_job *job);
void engine_lane_set(engine *e, engine_lane *lane, lane_state state);
/* Ends the run with an error: gracefully, or at once while it is still starting. */
void engine_fail(engine *e, int64_t now_us, const pgq_error *error);
/* There may be work that nobody has claimed. */
void engine_wake(engine *e);
/* Asks the pool for a job back, which it may have started. */
void engine_revoke(engine *e, engine_job *job);
/* The outcome is known but must not or need not be written. */
void engine_lost_claim(engine *e, engine_job *job);

/* engine_lane.c */
void engine_connect_lane(engine *e, int index);
/* The lane is down, without a word. */
int64_t engine_patience_ends(const engine *e);
void engine_give_up_flights(engine *e, int64_t now_us);
void engine_lane_down(engine *e, int64_t now_us, int index);
/* Answers that never come, though their connections are open. */
void engine_flight_begins(engine *e, int64_t now_us, engine_lane *lane);
void engine_answered(engine *e, int64_t now_us, engine_lane *lane, sentence_kind kind);
int64_t engine_answers_deadline(const engine *e);
void engine_answers_tick(engine *e, int64_t now_us);

/* engine_job.c */
/* `lease`: the lane that has leased it, or NULL. */
void engine_job_begin(engine *e, int64_t now_us, engine_lane *lease, bool large,
                      const claimed_row *row);
/* It stays queued: its row is free when its lease ends, or already; or that is seen later, as it
 * may be picked. */
void engine_drop_leased(engine *e, engine_job *job);
/* Revoked or never started: it waits to be released, or is written as cancelled. */
void engine_give_back(engine *e, int64_t now_us, engine_job *job);
/* A settle was not carried out, or nobody knows: the outcome waits again. */
void engine_finish_again(engine *e, engine_job *job);
void engine_alarms(engine *e, int64_t now_us);
void engine_tell_all(engine *e, job_why why);
/* Keeps a copy of a text as the reason for a job's outcome. */
void engine_own_text(engine *e, engine_job *job, const char *type, const char *text);

/* engine_listen.c */
void engine_listen_begin(engine *e, int64_t now_us);
/* From now on a ping has its time. */
void engine_ping_begins(engine *e, int64_t now_us);
/* The server has carried out the ping that the lane has said. */
void engine_ping_carried_out(engine *e, const engine_lane *lane);
void engine_listen_lost(engine *e, int64_t now_us, bool was_listening, const pgq_error *error);
/* When the listener becomes a suspect if what was said at `said_us`, a probe or LISTEN, has not
 * been answered. */
int64_t engine_suspect_at(const engine *e, int64_t said_us);
void engine_listen_tick(engine *e, int64_t now_us);

/* engine_share.c */
/* The leases go first: both sides are hungry. */
bool engine_leases_turn(const engine *e);
/* How many jobs the row lane may claim now, if the lane that is planned has not leased yet. */
size_t engine_room_of_rows(engine *e, int64_t now_us, const engine_lane *lane);
/* A claim of a side was said. */
void engine_took_turn(engine_side *side, engine_side *other);

/* engine_lease.c */
/* Whether the lane would lease if there were room for jobs and a thread soon. */
bool engine_could_lease(engine *e, int64_t now_us, const engine_lane *lane);
void engine_add_lease(engine *e, int64_t now_us, engine_lane *lane);
/* Adds the end of the lane's lease to its flight. False: it goes on. */
bool engine_end_lease(engine *e, int64_t now_us, engine_lane *lane);
/* When an idle lane's lease is to be looked at. */
int64_t engine_lease_deadline(const engine *e, const engine_lane *lane);
/* What is said of a job at the end of its lease: what became of it, or that it runs on. */
settle_item engine_item_of(const engine_job *job, bool ends);
void engine_lose_moving(engine *e, engine_job *job);
void engine_leave_lease(engine_job *job);
void engine_close_lease(engine *e, engine_lane *lane);

/* Outcomes of leased jobs can be written. */
void engine_release_brake(engine *e);
/* What the lane is just told of was leased before that was found to be in vain. */
bool engine_leased_in_vain(const engine *e, const engine_lane *lane);

/* engine_orphan.c */
/* Some of the orphans may be resolved before anything else is known of them. */
bool engine_resolving(const engine *e, int64_t now_us);
void engine_no_orphan(engine *e, engine_job *job);
/* The job runs on, or ended meanwhile, as a picked one. */
void engine_become_picked(engine *e, int64_t now_us, engine_lane *lane, engine_job *job);
/* The transaction is gone. `sent`: its end may have been carried out. */
void engine_lose_lease(engine *e, engine_lane *lane, bool sent);
bool engine_resolve_wanted(const engine *e, int64_t now_us);
bool engine_resolve_due(const engine *e, int64_t now_us);
void engine_add_resolve(engine *e, engine_lane *lane);
/* One group of the orphans that are put off has its turn, if it is time. */
void engine_orphans_again(engine *e, int64_t now_us);
/* A resolve was not answered, or refused; `sent`: it may have been carried out. */
void engine_unresolve(engine *e, engine_lane *lane, bool sent);
/* What was to be settled on the lane was lost with its connection. */
void engine_suspect(engine *e, engine_lane *lane);
/* An orphan that is another's, or that we have picked anew. */
void engine_orphan_lost(engine *e, engine_job *job);
void engine_orphan_picked(engine *e, int64_t now_us, engine_lane *lane, engine_job *job,
                          int64_t stamp);
void engine_hear_lease(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_conclude(engine *e, int64_t now_us, engine_lane *lane,
                          const sentence_reply *reply);
void engine_hear_commit(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_resolve(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
bool engine_any_lease(const engine *e);

/* engine_cursor.c */
void engine_add_cursors(engine *e, int64_t now_us, engine_lane *lane, sentence *s);
/* The claim brings nothing, or its answer will not come. */
void engine_forget_reach(engine *e, engine_lane *lane);
/* Whether a LEASE looks at what cursors have passed. */
bool engine_sweeps(const sentence *lease);
/* After engine_forget_reach. */
void engine_sweep_refused(engine *e, int64_t now_us, const engine_lane *lane, const sentence *said);
void engine_learn_cursors(engine *e, int64_t now_us, engine_lane *lane, const sentence *said,
                          const sentence_reply *reply);
bool engine_sweep_next(engine *e, int64_t now_us, const sentence *said);
/* A job lies in front of the cursors. */
void engine_want_sweep(engine *e);

/* engine_record.c */
bool engine_records_new(engine *e);
void engine_record_add(engine *e, engine_job *job);
void engine_record_remove(engine *e, engine_job *job);
/* The record of a leased job, or of an orphan; NULL: there is none of that id. */
engine_job *engine_leased_of(const engine *e, int64_t id);

/* engine_side.c */
void engine_learn_sides(engine *e);
/* Whether the lane may lease. */
bool engine_may_lease(const engine *e, const engine_lane *lane);
void engine_observe_run(engine *e, uint32_t entrypoint, bool slow);

/* engine_reply.c, for engine_lease.c */
void engine_refuse_claim(engine *e, int64_t now_us, const sentence_reply *reply);
void engine_accept_rows(engine *e, int64_t now_us, engine_lane *lane, bool leased,
                        const sentence_reply *reply);
void engine_settled(engine *e, int64_t now_us, engine_job *job);
void engine_back_unseen(engine *e);
void engine_settled_nothing(engine *e, engine_job *job);
/* Its settle is tried again in a while, alone. */
void engine_put_off(engine *e, int64_t now_us, engine_job *job);
void engine_refuse_settle(engine *e, int64_t now_us, engine_lane *lane,
                          const sentence_reply *reply);
void engine_tell_lost(engine *e, engine_job *job);

/* engine_unsettled.c */
/* The outcome of the job was refused, for good as far as one can see. */
void engine_despair(engine *e, engine_job *job, const pgq_error *error);
/* So were those of the lane's jobs, for a reason that may be gone later. */
void engine_despair_later(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error);
/* How many jobs are all that a worker still holds when nothing is left that it can settle. */
size_t engine_unsettleable(const engine *e);
/* The run ends, and leaves them. */
void engine_leave_unsettled(engine *e);

/* engine_refusal.c */
/* The reason for what is refused may pass: somebody mends it, or a moment does. */
bool engine_may_pass(const sentence_reply *reply);
/* What is refused is one of the rows, for all that is known, and not everything. */
bool engine_refused_for_row(const sentence_reply *reply);
/* The server waited for something, as a row that somebody keeps locked, and gave it up. */
bool engine_timed_out(const sentence_reply *reply);
/* A settle was given up by the server. Said again at once it would meet the same lock: first comes
 * what else there is. */
void engine_await_lock(engine *e, int64_t now_us, engine_lane *lane, const pgq_error *error);
/* An outcome was written. */
void engine_praise(engine *e, const engine_job *job);
/* A settle of it and others was refused. */
void engine_refused_together(engine *e, engine_job *job);
/* Of several that were refused since one like them was written only one is tried again a round. */
bool engine_worth_a_try(engine *e, const engine_job *job, uint32_t round);
/* An outcome was refused alone. Whether another is to be tried in its place: the same without its
 * text, or, when it is certain to be this row that is refused, that the job has failed. */
bool engine_reword(engine *e, engine_job *job, const pgq_error *error);

/* engine_probe.c */
void engine_learn_arrivals(engine *e, size_t rows);
void engine_hear_check(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_listen(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_probe(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_ping(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_survey(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_hear_announce(engine *e, int64_t now_us, engine_lane *lane,
                          const sentence_reply *reply);
void engine_hear_end_stuck(engine *e, int64_t now_us, engine_lane *lane,
                           const sentence_reply *reply);
void engine_hear_horizon(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);

/* engine_event.c */
/* Whether the event of so many jobs that are settled now may come later, in an announcement. */
bool engine_event_later(const engine *e, size_t jobs);
/* The lane's lease was committed, or that is not known. */
void engine_done_untold(engine *e, engine_lane *lane);
/* Somebody has said that jobs are done. */
void engine_done_told(engine *e, int64_t now_us);
int64_t engine_tell_deadline(const engine *e);
void engine_add_tell(engine *e, int64_t now_us, engine_lane *lane); /* if it is time */

/* engine_pace.c */

/* A settle of so many leased jobs was answered. */
void engine_pace_settled(engine *e, int64_t now_us, size_t jobs, int64_t took_us);
/* The lane may not lease now. */
bool engine_pace_rests(engine *e, int64_t now_us, const engine_lane *lane);

/* engine_fold.c */
void engine_fold_init(engine *e);
void engine_fold_begin(engine *e, int64_t now_us);
void engine_fold_wanted(engine *e); /* something was settled */
/* A fold may take a second, so it goes alone: it is added to an empty flight, if one is due. */
bool engine_fold_due(const engine *e, int64_t now_us);
void engine_add_fold(engine *e, int64_t now_us, engine_lane *lane);
bool engine_folds(const engine_lane *lane); /* it is in the flight */
/* The last one of a worker that ends: nobody else may be left who would fold its counts. Once. */
bool engine_add_last_fold(engine *e, engine_lane *lane);
void engine_hear_fold(engine *e, int64_t now_us, engine_lane *lane, const sentence_reply *reply);
void engine_fold_lost(engine *e, int64_t now_us, const sentence *said);
int64_t engine_fold_deadline(const engine *e);

/* engine_plan.c */
/* The sentences that are not answered, of all lanes that claim; of a lane that does not fly, what
 * its next flight has so far. Begin with all zeroes; NULL: that was the last one. */
typedef struct engine_said {
    int lane;
    size_t place;
} engine_said;
const sentence *engine_next_said(const engine *e, engine_said *at);
bool engine_any_said(const engine *e, sentence_kind kind);
/* Whether the lane has said it, and has no answer to it. */
bool engine_lane_said(const engine_lane *lane, sentence_kind kind);

/* engine_claim.c */
/* What the payloads of picked jobs are like. */
void engine_learn_rows(engine *e, const sentence_reply *reply);
size_t engine_room(engine *e);
/* Claims, adoptions and, if asked, leases that are under way, as the jobs they may bring. */
size_t engine_outstanding(const engine *e, bool leases);
size_t engine_free_threads(const engine *e);
void engine_add_claim(engine *e, int64_t now_us, engine_lane *lane);
void engine_add_adopt(engine *e, int64_t now_us, engine_lane *lane);
void engine_refund(engine *e, engine_lane *lane, const sentence_reply *reply, int64_t now_us);
void engine_add_ghost(engine *e, int64_t now_us, int64_t backend, int32_t batch);

/* engine_plan.c */
void engine_plan(engine *e, int64_t now_us);
sentence *engine_add_sentence(engine_lane *lane, sentence_kind kind);

#endif
