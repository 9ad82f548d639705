/* The inside of the translator: speak.c (the table of sentences, saying those of the row lane),
 * speak_hear.c (their answers), speak_lease.c (the lease lane), speak_log.c (what is logged). */
#ifndef QUEUE_SPEAK_INTERNAL_H
#define QUEUE_SPEAK_INTERNAL_H

#include "queue/speak.h"

/* speak.c */
/* The names of the shares' entrypoints. */
void speaker_add_names(speaker *s, const claim_share *shares, size_t count);
/* Two arrays, ids and `updated`, of tokens that are `stride` bytes apart. */
void speaker_add_tokens(params *p, const claim_token *first, size_t stride, size_t count);
/* Three arrays: statuses, delays, tracebacks. */
void speaker_add_outcomes(speaker *s, const settle_item *items, size_t count);

/* speak_hear.c */
void speaker_fill_job(const speaker *s, pgq_job *job, pg_result *r, size_t row, int payload_column,
                      const claimed_row *from);
/* The rows were not what they should be: the session is not to be trusted any more, and when that
 * goes on the schema is not. */
void speaker_malformed(speaker *s, sentence_reply *reply);
void speaker_read_check(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_claim(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_adopt(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_survey(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_places(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_beat(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_probe(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_nothing(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);

/* speak_log.c */
/* The array of the entrypoints of which neither claims nor releases are logged. */
void speaker_add_unlogged(speaker *s);
/* Whether the policy wants a log row of what became of a job. A success without one is counted
 * where it is settled; where that cannot be, it is logged. */
bool speaker_logs_end(const speaker *s, const settle_item *item);
/* One array of them. */
void speaker_add_logged(speaker *s, const settle_item *items, size_t count);

/* speak_lease.c */
void speaker_add_lease(speaker *s, const sentence *what);
void speaker_read_lease(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_front(const speaker *s, int64_t value, sentence_reply *reply);
statement_id speaker_lease(const speaker *s, const sentence *what);
statement_id speaker_conclusion(const speaker *s, const sentence *what);
void speaker_add_conclude(speaker *s, const sentence *what);
void speaker_add_resolve(speaker *s, const sentence *what);
void speaker_read_stamps(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_add_announce(speaker *s, const sentence *what);
void speaker_add_end_stuck(speaker *s, const sentence *what);
void speaker_read_end_stuck(speaker *s, const sentence *what, pg_reply *heard,
                            sentence_reply *reply);
void speaker_read_horizon(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);
void speaker_read_commit(speaker *s, const sentence *what, pg_reply *heard, sentence_reply *reply);

#endif
