"""Builds tests/handlers against the library under test: shared objects, and prog_* programs."""

import os
import shlex
import subprocess
from pathlib import Path

from lib import program

SOURCES = program.REPOSITORY / "tests" / "handlers"


class Handlers:
    """`handlers["journal"]` is the path of journal.so, `handlers["prog_produce"]` of a program."""

    def __init__(self, folder):
        self._built = {}
        environment = {
            **os.environ,
            "PKG_CONFIG_PATH": str(program.BUILD / "meson-uninstalled"),
        }

        def pkg_config(option, *packages):
            return shlex.split(
                subprocess.run(["pkg-config", option, *packages], env=environment, check=True,
                               capture_output=True, text=True).stdout
            )

        compiler = [*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-D_GNU_SOURCE", "-g",
                    "-O1", "-Wall", "-Wextra", "-Werror"]
        sanitizer = program.sanitizer()
        if sanitizer != "none":
            compiler.append(f"-fsanitize={sanitizer}")
        for source in sorted(SOURCES.glob("*.c")):
            if source.stem.startswith("prog_"):
                target = Path(folder) / source.stem
                links = pkg_config("--libs", "pgqueuer", "libpq")
                paths = [f"-Wl,-rpath,{flag[2:]}" for flag in links if flag.startswith("-L")]
                flags = [*pkg_config("--cflags", "pgqueuer", "libpq"), str(source), *links, *paths]
            else:
                # As the documentation says: the program that loads it has the library already.
                target = Path(folder) / f"{source.stem}.so"
                flags = ["-shared", "-fPIC", *pkg_config("--cflags", "pgqueuer"), str(source)]
            done = subprocess.run([*compiler, "-o", str(target), *flags, "-pthread"],
                                  capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
            self._built[source.stem] = target

    def __getitem__(self, name):
        return self._built[name]
