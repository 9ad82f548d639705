/* What must hold of listeners: no dead one goes unnoticed, none that lives is thought dead. */
#include "sim.h"

enum { SECOND_US = 1000 * 1000, COMES_BACK_US = 2 * SECOND_US };

static int64_t found_within(const world *w)
{
    return w->probe_interval_us + w->probe_timeout_us + SECOND_US;
}

void oracle_listen_hurt(worker *who, int64_t until_us)
{
    int64_t over_us = until_us + found_within(who->world) + SECOND_US;

    who->listen_hurt_us = base_max_i64(who->listen_hurt_us, over_us);
}

void oracle_listen_frozen(worker *who, int64_t until_us)
{
    /* what was hurt before cannot be found before it is awake, nor can the answer to a probe be
     * read that went out late, as the one before it was lost with its lane */
    if (who->world->now_us < base_max_i64(who->listen_hurt_us, who->disturbed_us + SECOND_US))
        oracle_listen_hurt(who, until_us);
}

static bool deaf(const connection *c)
{
    return c == NULL || !c->ready || c->cut || network_silent(c) || c->deaf_us != CLOCK_NEVER;
}

void oracle_listen_noted(worker *who, const engine_note *n)
{
    world *w = who->world;
    bool noted = who->deaf_noted_us != CLOCK_NEVER, failed = n->kind == NOTE_LISTENER_FAILED;

    if (failed == noted)
        violated(w, "I7: worker %d says twice that its listener is %s", (int)who->serial,
                 failed ? "deaf" : "restored");
    if (failed && !deaf(who->lanes[0]) && w->now_us > who->listen_hurt_us)
        violated(w, "I7: worker %d thinks that its listener is deaf, and it is not",
                 (int)who->serial);
    if (!failed && !who->lanes[0]->listening && w->now_us > who->listen_hurt_us)
        violated(w, "I7: worker %d thinks that its listener is restored, and it is not",
                 (int)who->serial);
    count_path(w, failed ? PATH_DEAF_FOUND : PATH_DEAF_RESTORED);
    who->was_deaf |= failed;
    who->deaf_noted_us = failed ? w->now_us : CLOCK_NEVER;
}

void oracle_check_listener(const worker *who)
{
    world *w = who->world;
    const connection *c = who->lanes[0];
    int64_t since_us;

    if (!who->alive || !who->ready || who->stopping || w->now_us < who->frozen_until_us)
        return;
    if (who->deaf_noted_us != CLOCK_NEVER && who->config.end_when_deaf && !who->config.drain)
        violated(w, "I4: worker %d has a deaf listener and does not end", (int)who->serial);
    if (c == NULL || !c->ready || c->cut)
        return;
    if (c->deaf_us != CLOCK_NEVER) {
        since_us = base_max_i64(c->deaf_us, who->frozen_until_us);
        if (w->now_us > since_us + found_within(w))
            violated(w, "I4: worker %d has not found out for %lld ms that its listener is deaf",
                     (int)who->serial, (long long)(w->now_us - since_us) / 1000);
        return;
    }
    /* it listens, or will with the next poll, if that was refused */
    since_us = base_max_i64(base_max_i64(who->idle_since_us, who->disturbed_us),
                            base_max_i64(c->ready_us, w->faults_end_us));
    if (who->idle_since_us == CLOCK_NEVER || w->now_us - since_us < COMES_BACK_US + w->dequeue_us)
        return;
    if (!c->listening)
        violated(w, "I4: worker %d does not listen", (int)who->serial);
    else if (who->deaf_noted_us != CLOCK_NEVER &&
             w->now_us - since_us > COMES_BACK_US + w->dequeue_us + found_within(w))
        violated(w, "I4: worker %d listens and does not say so", (int)who->serial);
}
