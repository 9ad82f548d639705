"""What was measured, and on what: no name of a host."""

import os
import platform
import re
import subprocess
from pathlib import Path


def describe():
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {"cpu": cpu[1].strip() if cpu else platform.machine(), "cores": os.cpu_count(),
            "memory_gib": round(int(memory[1]) / 1024 / 1024, 1) if memory else None,
            "kernel": f"{platform.system()} {platform.release()}"}


def revision(repository):
    """The commit, with a + when files have changed since; None without git."""
    git = ["git", "-c", "safe.directory=*", "-C", str(repository)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True,
                              check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no", "--",
                                  ":!bench/RESULTS.md", ":!bench/results"], capture_output=True, text=True,
                                 check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.strip() else "")
