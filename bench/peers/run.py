"""Other job queues on PostgreSQL beside this one, interleaved in one run on one private server.

    .venv/bin/python bench/peers/run.py [--rounds N] [--cells drain,single1,...] [--full]
        [--only NAME,...] [--configs best,default] [--out FOLDER]

What `make bench-peers` and `make bench-peers-full` run. Installs the peers below build/peers, runs every
cell for every system once a round, and writes FOLDER/RESULTS.md with FOLDER/results/ (bench/ by default).
docs/guide/benchmarking.md says what is measured; docs/internals/bench.md how.
"""

import argparse
import datetime
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "bench" / "peers")]

from harness import cells, install, machine, report, systems  # noqa: E402
from harness.figures import number  # noqa: E402
from harness.programs import Failed  # noqa: E402
from harness.server import Server  # noqa: E402
from lib import program  # noqa: E402

STANDARD = ("drain", "bulk", "single1", "single8", "latency")
EVERYTHING = tuple(cells.CELLS)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="every cell, both configurations, 5 rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--cells", help=f"of {','.join(EVERYTHING)}")
    parser.add_argument("--configs", help="best, default, or both: best,default")
    parser.add_argument("--only", help="systems, by their keys: " + ",".join(all_keys()))
    parser.add_argument("--warm-ms", type=int, default=cells.Box.warm_ms)
    parser.add_argument("--run-ms", type=int, default=cells.Box.run_ms)
    parser.add_argument("--backlog", type=int, default=cells.Box.backlog)
    parser.add_argument("--horizon", type=int, nargs=2, metavar=("LEAST", "MOST"),
                        default=cells.Box.horizon, help="seconds that the worker runs through")
    parser.add_argument("--no-fsync", action="store_true", help="to try it out; the page says so")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.full else 3)
    options.cells = split(parser, options.cells, EVERYTHING if options.full else STANDARD, EVERYTHING)
    options.configs = split(parser, options.configs, ("best", "default") if options.full else ("best",),
                            ("best", "default"))
    options.only = split(parser, options.only, all_keys(), all_keys())
    return options


def all_keys():
    return ("ours", "bare", *(system.key for system in systems.PEERS))


def split(parser, text, default, known):
    words = tuple(text.split(",")) if text else default
    if unknown := set(words) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return words


def say(text):
    print(text, flush=True)


def prepare(options):
    """Installs. Returns the systems, their ways with what makes their tables, and who is absent."""
    folder = program.BUILD / "peers"
    ready, absent = [], {}
    for system in systems.own_systems(program.BUILD):
        if system.key in options.only:
            ways = {"ours": systems.our_ways, "bare": systems.bare_ways}[system.key]
            tables = install.make_tables(systems.our_tables(program.BUILD))
            ready.append((system, tables, list(ways(program.BUILD, folder / system.key))))
    for system in systems.PEERS:
        if system.key not in options.only:
            continue
        say(f"installing {system.name} {system.version}")
        try:
            command = system.prepare(folder / system.key)
            ready.append((system, install.make_tables((*command, "install")), list(system.ways(command))))
        except install.Absent as why:
            absent[system.key] = str(why)
            say(f"  not run: {why}")
    return ready, absent


def measure(server, ready, options):
    """Every cell of every way once a round: {cell: {way id: [figures of a round, or an error]}}."""
    box = cells.Box(options.warm_ms, options.run_ms, options.backlog, tuple(options.horizon))
    benches = [cells.Bench(server, system, way, tables, box) for system, tables, ways in ready
               for way in ways if way.config in options.configs]
    found = {cell: {} for cell in options.cells}
    for turn in range(options.rounds):
        for cell in options.cells:
            for bench in benches:
                if cell in bench.way.cells:
                    found[cell].setdefault(bench.way.id, []).append(one(bench, cell, turn, options))
    return found


def one(bench, cell, turn, options):
    started = time.monotonic()
    try:
        figures = bench.measure(cell)
        shown = (f"{number(figures['jobs_per_s'])} jobs/s" if "jobs_per_s" in figures
                 else f"p50 {number(figures['p50_ms'])} ms")
    except Failed as why:
        figures, shown = {"error": str(why)}, f"failed: {why}"
    say(f"round {turn + 1}/{options.rounds}  {cell:8} {bench.way.id:28} {shown}"
        f"  ({time.monotonic() - started:.0f} s)")
    return figures


def main():
    options = arguments()
    started = time.monotonic()
    ready, absent = prepare(options)
    server = Server(durable=not options.no_fsync)
    try:
        description = server.describe()
        found = measure(server, ready, options)
    finally:
        server.close()
    document = report.document(
        found=found, systems=[*(system for system, _, _ in ready),
                              *(system for system in systems.PEERS if system.key in absent)],
        ways=[way for _, _, ways in ready for way in ways if way.config in options.configs], absent=absent,
        run={"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
             "revision": machine.revision(REPOSITORY), "machine": machine.describe(), "server": description,
             "rounds": options.rounds, "warm_ms": options.warm_ms, "run_ms": options.run_ms,
             "backlog": options.backlog, "full": options.full,
             "minutes": round((time.monotonic() - started) / 60, 1)})
    report.write(document, options.out)
    say(f"{options.out / 'RESULTS.md'} after {document['minutes']} minutes")


if __name__ == "__main__":
    main()
