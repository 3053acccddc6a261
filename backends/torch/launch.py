"""Train in several processes, one per GPU, that share the rows of every step (data parallel, by accelerate).

The worker writes the job to a file and starts the processes; the first one reports its steps on stdout as JSON lines.
`python -m wizloop.backends.torch.launch JOB` is such a process. The rows of a step do not depend on the number of
processes.
"""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from wizloop.backends import devices
from wizloop.backends.guard_types import (
    BackendError,
    DpoPair,
    NotFinite,
    OnStep,
    OnWait,
    SftExample,
    TrainJob,
    TrainResult,
    no_wait,
)

_JOB, _STOP, _NO_MEMORY, _NOT_FINITE, _FULL = "job.json", "stop", "out-of-memory", "not finite", "full"


@dataclass(frozen=True, slots=True)
class Order:
    """The job of the processes."""

    kind: str
    """"sft" or "dpo"."""
    job: TrainJob
    lessons: list[SftExample] | list[DpoPair]
    device: str
    sharded: bool


_ORDER, _RESULT = TypeAdapter(Order), TypeAdapter(TrainResult)


def train(
    kind: str,
    job: TrainJob,
    lessons: Sequence[SftExample] | Sequence[DpoPair],
    on_step: OnStep,
    on_wait: OnWait = no_wait,
    *,
    device: str,
    processes: int,
    sharded: bool = False,
) -> TrainResult:
    """Run torch/train.py's train_sft or train_dpo in several processes (see `count`), with the same guarantees.

    With `sharded` each process holds a share of the base. Raises MemoryError if a process runs out of memory, OSError
    for a full disk, and BackendError if one fails otherwise; its own message is in the worker's log.
    """
    processes = count(processes, sharded)
    checkpoint = job.checkpoint
    checkpoint.mkdir(parents=True, exist_ok=True)
    path, stop = checkpoint / _JOB, checkpoint / _STOP
    for stale in (_STOP, _NO_MEMORY):
        (checkpoint / stale).unlink(missing_ok=True)
    order: Any = Order(kind, job, list(lessons), device, sharded)  # type: ignore[arg-type]
    path.write_bytes(_ORDER.dump_json(order))
    with _started(path, device, processes) as running:
        try:
            last = _follow(running, on_step, on_wait)
        except BaseException:
            stop.touch()
            running.wait()
            raise
    if last is not None and _FULL in last:
        raise OSError(errno.ENOSPC, "the disk is full", last[_FULL])
    if last is None or running.returncode:
        raise failure(checkpoint, f"training in {processes} processes ended with status {running.returncode}")
    if _NOT_FINITE in last:
        raise NotFinite(last[_NOT_FINITE])
    return _RESULT.validate_python(last)


def count(processes: int, sharded: bool) -> int:
    """Return the number of training processes for a recipe's `processes`; 0 means one per GPU.

    Raises BackendError if one process would hold all shares of the base.
    """
    import torch

    wanted = processes or max(1, int(torch.cuda.device_count()))
    if sharded and wanted == 1:
        raise BackendError(
            'train.sharding is "fsdp", and one process would train: set train.processes to 2 or more, '
            'or train.sharding to "none"'
        )
    return wanted


def failure(checkpoint: Path, what: str) -> Exception:
    """Return the error of a failed training: a process that ran out of memory has left a file next to the job."""
    message = checkpoint / _NO_MEMORY
    if message.exists():
        return MemoryError(f"{what}: {message.read_text(encoding='utf-8')}")
    return BackendError(f"{what}; see the log")


def _started(job: Path, device: str, processes: int) -> subprocess.Popen[str]:
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-P", "-m", *several, "-m", "wizloop.backends.torch.launch", str(job)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": str(device == "cpu").lower()}
    if device == "cpu":
        # A sharded base would be put on any GPU that is visible.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    # The worker's stdin is its own channel, which no other process may read.
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def _follow(running: subprocess.Popen[str], on_step: OnStep, on_wait: OnWait) -> dict[str, Any] | None:
    """Call on_step and on_wait for what the first process reports; return its last message."""
    assert running.stdout is not None
    for line in running.stdout:
        if not line.startswith("{"):
            continue
        message: dict[str, Any] = json.loads(line)
        if "wait" in message:
            on_wait(message["wait"])
            continue
        if "step" not in message:
            return message
        on_step(message["step"], message["steps"], message["loss"])
    return None


def main(path: Path) -> None:
    """Run one of the processes of the job in a file. The first one reports."""
    import torch

    from wizloop.backends.torch.train import train_dpo, train_sft

    order = _ORDER.validate_json(path.read_bytes())
    if order.device != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))

    def report(step: int, steps: int, loss: float) -> None:
        _say({"step": step, "steps": steps, "loss": loss})
        if (path.parent / _STOP).exists():
            # Not 0: the other processes wait for this one and are ended when it fails.
            raise SystemExit(1)

    def wait(doing: str) -> None:
        if os.environ["RANK"] == "0":
            _say({"wait": doing})

    train: Any = train_dpo if order.kind == "dpo" else train_sft
    try:
        result = train(order.job, order.lessons, report, wait, device=order.device, sharded=order.sharded)
        last = _RESULT.dump_python(result)
    except NotFinite as error:
        last = {_NOT_FINITE: str(error)}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say({_FULL: str(error.filename)})
        raise
    except (MemoryError, RuntimeError) as error:
        if devices.out_of_memory(error):
            (path.parent / _NO_MEMORY).write_text(str(error), encoding="utf-8")
        raise
    if os.environ["RANK"] == "0":
        _say(last)
    # Threads that still talk to the others would end a process with an abort.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
