"""The registry of scenarios: what holds when this program and Python PGQueuer 1.6.0 share a database.

A row: id, what holds, the section of the wire contract that asks for it, and the numbers that it has in
the contract's list of tests (section 12). CONTRIBUTING.md says how to add one, tests/lib/scenarios.py
what fails the suite, and NOT_YET which numbers of that list wait for what."""

from lib.scenarios import Scenario

INTEGRATION, CLI = "tests/integration", "tests/cli"
NUMBERS = range(1, 64)

SCENARIOS = {
    # -- catalogue and upgrade
    "catalogue.install": Scenario(
        "our install makes what the Python release's makes", "1", (1,), INTEGRATION),
    "catalogue.python-content-with-ours": Scenario(
        "Python verifies our installation and plans but its function's own text", "1.5, 2", (2,)),
    "catalogue.ours-content-with-python": Scenario(
        "we verify Python's installation, and our upgrade changes nothing of it", "1, 2", (3,)),
    "catalogue.uninstall-by-python": Scenario(
        "Python's uninstall removes all of our installation", "1.8"),
    "catalogue.second-install": Scenario(
        "a second install exits with 1 and changes nothing", "1.8", (10,), INTEGRATION),
    "catalogue.upper-case": Scenario(
        "a prefix in upper case, which is broken upstream, is refused", "1.1", (9,), INTEGRATION),
    "catalogue.extras": Scenario(
        "with our extras Python plans nothing more, uninstalls, and works", "1.8", (8,)),
    "upgrade.released-schemas": Scenario(
        "our upgrade of each released schema ends at a fresh install and keeps the rows", "2.5", (4,),
        INTEGRATION),
    "upgrade.then-both-work": Scenario(
        "after our upgrade of a released schema Python plans its function, and both sides work", "2.5",
        (4,)),
    "upgrade.either-first": Scenario(
        "either upgrade is content with what the other one left", "2.1", (4,)),
    "upgrade.mends": Scenario(
        "our upgrade restores each object that was dropped", "2.5", (5,), INTEGRATION),
    "upgrade.mends-for-python": Scenario(
        "Python finds nothing to do after our upgrade has restored dropped objects", "2.5", (5,)),
    "upgrade.lock": Scenario(
        "our upgrade waits for whoever holds the contract's advisory lock", "2.1", (6,), INTEGRATION),
    "upgrade.lock-both": Scenario(
        "upgrades of both sides at once go one after the other", "2.1", (6,)),
    "upgrade.statistics": Scenario(
        "statistics that share a key are summed into the oldest row", "2.1", (7,), INTEGRATION),
    "upgrade.under-load": Scenario(
        "our upgrade under load, with workers of both sides, fails no job", "2.5"),
    "worker.old-schema": Scenario(
        "our worker does not start without the slot column or its index, and names it", "3.2", (11,), CLI),
    # -- all of it, in every combination
    "combination.life": Scenario(
        "whoever produces, works, cancels and requeues: the same rows, events, statistics and readings",
        "4, 5, 9"),
    # -- enqueueing
    "enqueue.c-to-python": Scenario(
        "Python works what we enqueued, unchanged and in order", "4.1", (12,)),
    "enqueue.python-to-c": Scenario(
        "we work what Python enqueued, unchanged and in order", "4.1", (13,)),
    "enqueue.same-rows": Scenario("both store the same rows", "4.1"),
    "enqueue.no-headers": Scenario("Python reads our jobs without headers", "4.1", (14,)),
    "enqueue.headers-object": Scenario(
        "we refuse headers that are no object", "4.1", (15,), CLI),
    "enqueue.raise": Scenario("a taken key refuses the whole batch, no log row", "4.1", (16,)),
    "enqueue.skip": Scenario("skip leaves out taken and repeated keys", "4.1", (17,)),
    "enqueue.update-priority": Scenario(
        "update_priority raises, never lowers, changes nothing else, reaches picked jobs", "4.1", (18,)),
    "enqueue.update-priority-repeated": Scenario(
        "update_priority with a repeated key is refused before any SQL", "4.1", (19,)),
    "enqueue.rollback": Scenario(
        "an enqueue that is rolled back leaves nothing and wakes nobody", "4.1", (20,)),
    "enqueue.one-notification": Scenario("10 000 jobs in a batch are one notification", "1.5", (21,)),
    "enqueue.key-lifetime": Scenario(
        "a key is freed by success, hold and cancel, not by the pick", "4.1", (22,)),
    "enqueue.any-language": Scenario(
        "the programs of the guide enqueue in their own transactions", "4.1",
        skipped_unless="the language and its driver are installed"),
    # -- claiming
    "claim.mixed-fleet": Scenario(
        "two workers of each side run each job once, each status logged once", "4.3", (23,)),
    "claim.priority": Scenario("priority goes before age, across entrypoints", "4.3", (24,)),
    "claim.deferred": Scenario("a deferred job starts at its time, not at the poll", "4.3", (25,)),
    "claim.due-now": Scenario("a job that is due exactly now is claimed", "4.3", (35,)),
    "claim.limits": Scenario(
        "limits of 3 and 1 hold in a mixed fleet, by slots, though workers are killed", "4.3", (26, 27)),
    "claim.seat-race": Scenario(
        "a lost race for a seat or a deadlock is an empty claim, any other 23505 an error", "4.3", (28,)),
    "claim.left-over-slot": Scenario(
        "a slot that Python left on a queued row stops no worker of ours", "4.3", (29,)),
    "claim.no-slot": Scenario("our retry and hold leave no slot", "4.5", (30,)),
    "claim.seat-back": Scenario(
        "retry, hold and requeue of a limited job give its seat back", "4.5, 4.6", (30,), INTEGRATION),
    "claim.retried-across": Scenario(
        "either side picks with a limit what the other one retried", "4.3", (31,)),
    "claim.budget": Scenario(
        "our worker never holds more than max_concurrent_tasks", "4.3", (32,), INTEGRATION),
    "claim.takeover-by-c": Scenario(
        "we take over the job of a killed worker of Python's", "4.3", (33,)),
    "claim.takeover-by-python": Scenario(
        "Python takes over the job of a killed worker of ours", "4.3", (33,)),
    "claim.live": Scenario(
        "a job whose worker beats in time is not taken over, also with different timeouts", "4.8", (34,)),
    "claim.old-releases": Scenario(
        "workers of 0.21.0 and 1.3.2 beside ours: each job once", "3.2, 11", (63,),
        skipped_unless="PGQUEUER_OLD_RELEASES names a folder that has them"),
    # -- what becomes of jobs
    "settle.log-rows": Scenario("both write the same log rows for the same jobs", "9"),
    "settle.tracebacks": Scenario("Python reads our tracebacks, all six keys", "9", (36,)),
    "settle.hold": Scenario(
        "Python lists and requeues a job that we held, and we run it with attempts 0", "4.4, 4.6", (37,)),
    "settle.requeue": Scenario(
        "whoever held a job and whoever requeues it: it runs again", "4.6"),
    "settle.retry": Scenario(
        "our retry is attempts + 1 and a log row with reason, attempt and retry_delay", "4.5", (38,)),
    "settle.retry-executor": Scenario("the retry executors of both write the same", "4.14, 9"),
    "settle.odd-texts": Scenario(
        "an error text that is no UTF-8 is written and delays no other job", "4.4", (39,)),
    "settle.zombie": Scenario(
        "our worker whose job was picked by another one writes nothing for it", "4.4", (40,)),
    "settle.restart": Scenario(
        "completions arrive once though the server is restarted", "4.4", (41,), INTEGRATION),
    "settle.watcher": Scenario(
        "Python's completion watcher sees the ends of the jobs that we ran", "5", (42,)),
    # -- cancelling
    "cancel.by-python": Scenario(
        "Python cancels a job that we run: told in time, one canceled row", "4.7", (43,)),
    "cancel.by-c": Scenario(
        "we cancel a job that Python runs: told in time, one canceled row", "4.7", (44,)),
    "cancel.event-alone": Scenario(
        "on the event alone our worker ends the job as canceled", "4.7", (45,), INTEGRATION),
    "cancel.many": Scenario(
        "5000 ids are told in events of the right size, and all logged", "4.7", (46,), INTEGRATION),
    "cancel.before-start-c": Scenario(
        "a cancel between our claim and the start of the job counts", "4.7", (47,), INTEGRATION),
    "cancel.before-start-python": Scenario(
        "our cancel reaches a job that Python claims meanwhile", "4.7", (47,)),
    # -- events
    "events.accepted": Scenario(
        "Python's model accepts each event that we send", "5", (48,)),
    "events.ignored": Scenario(
        "our worker ignores events that it does not know, junk, and 7999 bytes", "5", (49,)),
    "events.requeue-wakes": Scenario(
        "our requeue wakes an idle worker of Python's", "5, 10", (50,)),
    "events.retry-wakes": Scenario("our retry wakes an idle worker of either side", "5, 10", (50,)),
    "events.listener": Scenario(
        "our worker listens again, or ends with its status; nothing is lost", "4.14", (51,), INTEGRATION,
        skipped_unless="the machine lets a test make a network of its own"),
    "events.channel": Scenario(
        "a channel with dash, dot and upper case", "1.1", (52,), INTEGRATION),
    # -- whole fleets, other servers
    "fleets.differential": Scenario(
        "random operations end at the same whoever works: Python, ours, both", "4, 10"),
    "majors.both-work": Scenario(
        "install, work, upgrade and cancel on each supported major of PostgreSQL", "1, 2, 4",
        skipped_unless="packages of that PostgreSQL can be had"),
    # -- moving over, as docs/guide/from-python.md says
    "moving.same-program": Scenario(
        "the guide's program does the same in both languages", "3, 4"),
    "moving.mixed": Scenario(
        "both versions of it at once run each job once, and requeue what either holds", "4"),
    "moving.back": Scenario("Python goes on with what a worker of ours leaves", "4"),
    "moving.commands": Scenario(
        "the guide says of each of Python's commands and options what there is here", "6"),
    # -- statistics, dashboards, command line
    "statistics.both-fold": Scenario(
        "both fold at once, with either spelling of the index and in any time zone: sums are the log's",
        "4.11", (53, 54, 55), INTEGRATION),
    "statistics.reader": Scenario(
        "our folds are exact beside a reader of Python's, which takes no lock", "4.11", (53,),
        INTEGRATION),
    "statistics.extras": Scenario(
        "with our extras both fold at once, and Python reads what we counted", "4.11", (53,)),
    "readers.held": Scenario(
        "failed, stale, workers, backlog: Python's commands show the same of our workers as of its own",
        "4.12, 6"),
    "cli.exit-status": Scenario(
        "where Python's exit status is 0 or 2 ours is too; where it is 1, ours is neither", "6", (62,)),
}

# Numbers of the contract's list that have no scenario, and what they wait for.
NOT_YET = {
    "the schedules": range(56, 61),
    "the commands failed, stale, workers and backlog, with their --json": (61,),
}
