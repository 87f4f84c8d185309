"""The child of the fuzzer: reads mutants of one format under limits, and writes what happened as one line of JSON."""

from __future__ import annotations

import base64
import json
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.formats import FORMATS, PLANTED
from stridenet.errors import StridenetError

MIB = 2**20
ROOM = 1024 * MIB  # of address space, beyond what the warm-up took
CORPUS = Path(__file__).parent / "corpus"
MOST_FAILURES = 3


class Hang(BaseException):
    """A reader took too much of the processor's time."""


def ring(*_: object) -> None:
    raise Hang


def status(field: str) -> int:
    """A size of /proc/self/status in bytes."""
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024


def outcome(read: Callable[[Path], object], path: Path, seconds: float) -> tuple[str, str]:
    """The class that the reader raised, or "read"; and what is wrong with that, if anything."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        read(path)
    except StridenetError as error:
        message = str(error)
        fault = "" if message.isprintable() and 0 < len(message) < 1000 else "more than one printable line"
        return type(error).__name__, fault and f"{fault}: {type(error).__name__}: {message[:300]!r}"
    except (Exception, Hang) as error:  # noqa: BLE001
        return type(error).__name__, f"{type(error).__name__}: {str(error)[:300]!r}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read", ""


def main(name: str, count: int, seed: int, folder: Path, planted: str, seconds: float) -> dict[str, Any]:
    """What `count` mutants of the format did; the file that was read last is the culprit if this process dies."""
    form, path = FORMATS[name], folder / FORMATS[name].file
    read = PLANTED[planted] if planted else form.read
    signal.signal(signal.SIGPROF, ring)
    seeds = form.seeds(folder)
    for data in seeds:
        path.write_bytes(data)
        form.read(path)  # a seed is valid
        path.write_bytes(data[: len(data) // 2])
        outcome(form.read, path, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + ROOM, resource.RLIM_INFINITY))
    classes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    kept = [(file.name, file.read_bytes()) for file in sorted((CORPUS / name).glob("*.bin"))]
    sound, grown, peak = 0, 0, status("VmHWM")
    for case in range(-len(kept), count):
        if case < 0:
            label, data = kept[case]
        else:
            rng = random.Random(f"{name} {seed} {case}")
            label, data = f"case {case}", form.mutate(rng, rng.choice(seeds))
            sound += form.is_sound(data)
        path.write_bytes(data)
        kind, fault = outcome(read, path, seconds)
        grown = (status("VmHWM") - peak) // MIB
        fault = fault or (f"{grown} MiB of memory" if grown >= 64 else "")
        classes[kind] += 1
        if fault:
            failures.append({"case": label, "fault": fault, "input": base64.b64encode(data).decode()})
        if len(failures) == (1 if planted else MOST_FAILURES):
            break
    return {"classes": classes, "sound": sound, "kept": len(kept), "failures": failures, "grown": grown}


if __name__ == "__main__":
    name, count, seed, folder, planted, seconds = sys.argv[1:]
    sys.stdout.write(json.dumps(main(name, int(count), int(seed), Path(folder), planted, float(seconds))))
