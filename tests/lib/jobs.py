"""Jobs as the producers of the tests read them from stdin.

One job is a line `entrypoint TAB priority TAB delay_ms TAB dedupe_key TAB headers TAB size`,
followed by `size` bytes of payload. A dedupe key or headers of `-` and a size of -1 mean none.
"""

import dataclasses
import hashlib
import random


@dataclasses.dataclass
class NewJob:
    entrypoint: str
    payload: bytes | None = None
    priority: int = 0
    delay_ms: int = 0
    dedupe_key: str | None = None
    headers: str | None = None

    @property
    def size(self):
        return None if self.payload is None else len(self.payload)

    @property
    def sha256(self):
        return hashlib.sha256(self.payload or b"").hexdigest()


def encode(jobs):
    parts = []
    for job in jobs:
        size = -1 if job.payload is None else len(job.payload)
        fields = [job.entrypoint, job.priority, job.delay_ms, job.dedupe_key or "-",
                  job.headers or "-", size]
        parts.append("\t".join(map(str, fields)).encode() + b"\n")
        parts.append(job.payload or b"")
    return b"".join(parts)


def varied_jobs(count, seed, entrypoints):
    """Jobs with payloads of 0 bytes to 1 MB over all byte values, headers, and priorities. The
    seed makes the same jobs again."""
    draw = random.Random(seed)
    every_byte = bytes(range(256))
    sizes = [0, 1, 255, 256, 2047, 2048, 65_536, 1_000_000]
    priorities = [-(2**31), -1, 0, 0, 0, 1, 7, 2**31 - 1]
    headers = [None, None, "{}", '{"trace": {"x": 1}}', '{"text": "\\u00e9\\u4e2d \\u0001", "n": null}',
               '{"list": [1, 2.5, true, "a"], "big": 9007199254740993}']
    jobs = []
    for index in range(count):
        size = sizes[index] if index < len(sizes) else int(2 ** draw.uniform(0, 14))
        payload = every_byte if size == 256 else draw.randbytes(size)
        if index == len(sizes):
            payload = None
        jobs.append(NewJob(draw.choice(entrypoints), payload, draw.choice(priorities),
                           headers=draw.choice(headers)))
    draw.shuffle(jobs)
    return jobs
