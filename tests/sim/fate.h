/* What can happen to a simulated fleet, one row each, and how often it must have happened.
 *
 * A fault is drawn by the world; a path is something the engines did. Both are counted over all
 * histories: a whole batch in which one stayed below its minimum proves nothing and fails. */
#ifndef SIM_FATE_H
#define SIM_FATE_H

/* X(NAME, minimum in 1000 histories, text) */
#define FAULTS(X)                                                              \
    X(TRANSIENT, 500, "statement refused for a moment (40001)")                \
    X(PERMISSION, 100, "statement refused for lack of a privilege (42501)")    \
    X(BROKEN_LOG, 100, "outcome refused, as all are for a while (23514)")      \
    X(SESSION, 200, "statement refused, session ending (57P01)")               \
    X(CONTENDED, 20, "claim refused, its seat just taken (23505)")             \
    X(POISON_TEXT, 100, "settle refused for the text of one job")              \
    X(POISON_ROW, 20, "settle refused for one row, whatever is written")       \
    X(CUT_BEFORE, 200, "connection lost before the server got the statement")  \
    X(CUT_AFTER, 200, "connection lost after the statement, before its reply") \
    X(CUT_MIDDLE, 25, "connection lost in the middle of a flight")             \
    X(CUT_IDLE, 100, "connection lost between flights")                        \
    X(LATE, 100, "statement of a lost connection carried out later")           \
    X(GHOST, 50, "backend of a lost connection that lives on")                 \
    X(UNSAID, 100, "flight that could not be sent")                            \
    X(NO_CONNECT, 200, "connect refused")                                      \
    X(OUTAGE, 100, "database away for a while")                                \
    X(SLOW, 500, "slow reply")                                                 \
    X(NOTIFY_LOST, 200, "notification lost")                                   \
    X(NOTIFY_TWICE, 200, "notification doubled")                               \
    X(NOTIFY_EARLY, 100, "notification before its cause")                      \
    X(DEAF, 50, "LISTEN swallowed")                                            \
    X(DROPPED, 50, "listener's packets dropped, no loss to be seen")           \
    X(CRASH, 100, "worker killed")                                             \
    X(FREEZE, 100, "worker stopped for a while")                               \
    X(STOP, 100, "worker asked to end")                                        \
    X(HURRY, 50, "worker asked to end at once")                                \
    X(NOMEM, 100, "no memory for a claimed job")                               \
    X(LOCK, 100, "row locked by somebody else for a while")                    \
    X(CANCEL, 100, "row deleted, picked ones included, without an event")      \
    X(CANCEL_EVENT, 100, "jobs cancelled: event, then rows, then again")       \
    X(ENDLESS, 10, "handler that does not end")                                \
    X(LATE_TICK, 500, "timer fired late")                                      \
    X(COMMIT_REFUSED, 50, "commit refused, the lease rolled back")             \
    X(CUT_CONCLUDED, 5, "connection lost with the reply to a conclusion")      \
    X(CUT_COMMITTED, 5, "connection lost with the reply to a lease's commit")  \
    X(CUT_LEASED, 5, "connection lost with the reply to a lease")              \
    X(CUT_ORPHAN, 1, "connection lost with the reply to a claim of an orphan") \
    X(COMMIT_LATE, 5, "lease committed after its connection was lost")         \
    X(IDLE_ENDED, 5, "session ended for being idle in its lease")              \
    X(SILENT, 10, "leased lane's packets dropped")                             \
    X(FREEZE_LEASED, 8, "worker stopped that had jobs leased")                 \
    X(STUCK, 1, "answer too large for the socket of a stopped worker")         \
    X(COMMITS_LATE, 200, "job committed after later ones")                     \
    X(FREEZE_FLYING, 10, "worker stopped while a lease was being ended")       \
    X(SWALLOWED_BEFORE, 50, "statement swallowed, its connection open")        \
    X(SWALLOWED_AFTER, 50, "answer swallowed, its connection open")

#define PATHS(X)                                                                \
    X(RUN, 20000, "run of a job")                                               \
    X(DONE, 10000, "job settled as successful")                                 \
    X(FAILED, 1000, "job settled as exception")                                 \
    X(HELD, 200, "job held")                                                    \
    X(RETRIED, 1000, "job went back for a retry")                               \
    X(CANCELLED, 50, "job settled as cancelled")                                \
    X(DEFERRED, 1000, "deferred job became due")                                \
    X(SEATED, 5000, "job claimed with a seat")                                  \
    X(FULL, 2000, "claim that left due jobs, their entrypoint being full")      \
    X(KEPT_SEAT, 20, "stale job that kept its seat")                            \
    X(RATED, 1000, "job of a rated entrypoint claimed")                         \
    X(HELD_FULL, 200, "worker holding all it may")                              \
    X(REPICK_DEAD, 100, "stale job of an ended worker claimed")                 \
    X(REPICK_LIVE, 50, "stale job of a living worker claimed")                  \
    X(REPICK_ORPHAN, 5, "stale job claimed that its worker did not know of")    \
    X(ADOPTED, 20, "job of a lost claim adopted")                               \
    X(ADOPTED_LATE, 5, "job of a claim adopted that came after its connection") \
    X(GHOST_LIVED, 20, "adoption told of a living ghost")                       \
    X(EXTRA_RUN, 50, "extra run of a job after its claim was lost")             \
    X(OVERLAP, 10, "run beside a run that had lost its claim")                  \
    X(UNPROVEN, 10, "job not started, because its claim could not be proven")   \
    X(BISECTED, 50, "settle of several jobs refused and split")                 \
    X(REWORDED, 50, "settle that replaced a refused text")                      \
    X(UNCERTAIN_DONE, 50, "settle sent again that had been carried out")        \
    X(UNCERTAIN_AGAIN, 50, "settle sent again that had not been carried out")   \
    X(FENCED, 20, "settle of a stale token that wrote nothing")                 \
    X(TOLD_LOST, 50, "beat that told of a lost claim")                          \
    X(TOLD_HANDLER, 50, "handler told to end early")                            \
    X(REVOKED, 50, "job revoked before it started")                             \
    X(RELEASED, 100, "job given back")                                          \
    X(CANCEL_TOLD, 20, "handler told that its job is cancelled")                \
    X(CANCEL_UNSTARTED, 5, "job cancelled while it waited for a thread")        \
    X(CANCEL_REMEMBERED, 2, "cancellation heard before the claim")              \
    X(CANCEL_RETRY, 1, "retry of a cancelled job written as cancelled")         \
    X(CANCEL_ROW, 50, "row that its canceller deleted")                         \
    X(CANCEL_AGAIN, 1, "row that its canceller deleted at its second look")     \
    X(TIMED_OUT, 100, "handler told that its time is over")                     \
    X(ABANDONED, 50, "handler given up")                                        \
    X(ABANDONED_PARKED, 2, "parked job given up")                               \
    X(STRAGGLER_ENDED, 20, "handler that was given up ended")                   \
    X(EXHAUSTED, 2, "worker without a thread that is not stuck")                \
    X(PARKED, 500, "job parked")                                                \
    X(RESTED, 200, "job started again after a rest")                            \
    X(REST_BROKEN, 5, "rest broken off by a stop or a cancellation")            \
    X(DEAF_FOUND, 50, "listener found to be deaf")                              \
    X(DEAF_RESTORED, 20, "listener heard again")                                \
    X(SURVEYED, 5, "different limits noticed")                                  \
    X(FOLDED, 200, "log folded into the statistics")                            \
    X(CLAIM_STOPPED, 2, "claim answered while its worker was stopping")         \
    X(ENDED_STOPPED, 500, "worker ended cleanly after a stop")                  \
    X(ENDED_DRAINED, 50, "worker ended by itself, the queue empty")             \
    X(ENDED_NOW, 20, "worker ended by itself, jobs deferred or not")            \
    X(ENDED_ONLY, 5, "worker ended after its only job")                         \
    X(ENDED_TIMEOUT, 20, "worker ended by its drain timeout")                   \
    X(ENDED_HURRIED, 5, "worker ended with handlers running, being hurried")    \
    X(ENDED_DEAF, 10, "worker ended because its listener failed")               \
    X(ENDED_AWAY, 1, "worker ended because the database stayed away")           \
    X(ENDED_REFUSED, 50, "worker ended because a statement was refused")        \
    X(ENDED_UNSETTLED, 5, "worker ended although an outcome was refused")       \
    X(LEASED, 5000, "job leased")                                               \
    X(LEASE_RUN, 2000, "run of a leased job")                                   \
    X(LEASE_UNPROVEN, 1, "leased job not started, its lease being over")        \
    X(CONCLUDED, 2000, "job written by a lease's conclusion")                   \
    X(DEMOTED, 500, "job that outran its lease, picked from then on")           \
    X(CONCLUDE_REFUSED, 50, "conclusion refused")                               \
    X(TRIAL, 20, "job leased to find out whether outcomes can be written")      \
    X(ANNOUNCED, 50, "freed jobs announced")                                    \
    X(DONE_TOLD, 50, "jobs of a backlog announced as done")                     \
    X(ORPHAN_WRITTEN, 50, "outcome written after its lease was lost")           \
    X(ORPHAN_KEPT, 20, "running job picked after its lease was lost")           \
    X(ORPHAN_DEMOTED, 1, "orphan that its lost conclusion had demoted")         \
    X(ORPHAN_DONE, 5, "orphan that its lost conclusion had written")            \
    X(ORPHAN_LOST, 5, "orphan that others had taken")                           \
    X(RESOLVE_WAITED, 5, "resolve that waited for a lock")                      \
    X(RESOLVE_TIMEOUT, 1, "resolve that waited too long")                       \
    X(LEASED_BESIDE, 1, "lease that brought a job whose record is an orphan")   \
    X(ORPHAN_CLAIMED, 1, "orphan that a claim has picked")                      \
    X(LOSS_PROVEN, 1, "lost lease found out by a claim that brought its job")   \
    X(STUCK_ENDED, 1, "session of a stopped worker ended by another")           \
    X(SWEPT_LATE, 5, "late job found in front of cursors")                      \
    X(CURSORS, 500, "job leased behind cursors")                                \
    X(FRONT_AHEAD, 50, "lease begun where those of others would end")           \
    X(FRONT_BACK, 20, "others told to look again at what they have passed")     \
    X(FRONT_WRONG, 20, "front of all claims set far ahead by a stranger")       \
    X(LARGE, 50, "job leased without its payload")                              \
    X(GIVEN_UP, 50, "lane given up, its answer swallowed")

#define FAULT_ENUM(name, minimum, text) FAULT_##name,
#define PATH_ENUM(name, minimum, text) PATH_##name,

typedef enum fault { FAULTS(FAULT_ENUM) FAULT_COUNT } fault;
typedef enum path { PATHS(PATH_ENUM) PATH_COUNT } path;

#undef FAULT_ENUM
#undef PATH_ENUM

#endif
