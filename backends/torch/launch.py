"""Trains in several processes, one for each card, that share the rows of every step (data parallel, by accelerate).

The worker writes the job to a file and starts the processes; the first of them reports its steps on stdout, as JSON
lines. `python -m wizloop.backends.torch.launch JOB` is such a process. Which rows a step has does not depend on how
many share them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wizloop.backends import devices
from wizloop.backends.guard_types import (
    BackendError,
    DpoPair,
    Encoded,
    LoraShape,
    NotFinite,
    OnStep,
    SftExample,
    TrainJob,
    TrainResult,
    TrainSettings,
)

_JOB, _STOP, _NO_MEMORY, _NOT_FINITE = "job.json", "stop", "out-of-memory", "not finite"


def train(
    kind: str,
    job: TrainJob,
    lessons: Sequence[SftExample] | Sequence[DpoPair],
    on_step: OnStep,
    *,
    device: str,
    processes: int,
    sharded: bool = False,
) -> TrainResult:
    """torch_train's train_sft or train_dpo (`kind` is "sft" or "dpo") in as many processes as `count` says, with the
    same promises. With `sharded` each of them holds a share of the base.

    Raises MemoryError when a process runs out of memory, and BackendError when one fails otherwise; its own words are
    in the worker's log.
    """
    processes = count(processes, sharded)
    checkpoint = job.checkpoint
    checkpoint.mkdir(parents=True, exist_ok=True)
    path, stop = checkpoint / _JOB, checkpoint / _STOP
    for said_before in (_STOP, _NO_MEMORY):
        (checkpoint / said_before).unlink(missing_ok=True)
    said = {"kind": kind, "device": device, "sharded": sharded, "job": asdict(job)}
    said["lessons"] = [asdict(each) for each in lessons]
    path.write_text(json.dumps(said, default=str), encoding="utf-8")
    with _started(path, device, processes) as running:
        try:
            ended = _follow(running, on_step)
        except BaseException:
            stop.touch()
            running.wait()
            raise
    if ended is None or running.returncode:
        raise failure(checkpoint, f"training in {processes} processes ended with status {running.returncode}")
    if _NOT_FINITE in ended:
        raise NotFinite(ended[_NOT_FINITE])
    return TrainResult(
        ended["steps"], [(step, loss) for step, loss in ended["losses"]], ended["dropped"], ended["halvings"]
    )


def count(processes: int, sharded: bool) -> int:
    """How many processes train where the recipe asks for so many; 0 means one for each card.

    Raises BackendError where one would hold all shares of the base.
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
    """What a training that failed raises: a process that ran out of memory has left word beside the job."""
    word = checkpoint / _NO_MEMORY
    if word.exists():
        return MemoryError(f"{what}: {word.read_text(encoding='utf-8')}")
    return BackendError(f"{what}; see the log")


def _started(job: Path, device: str, processes: int) -> subprocess.Popen[str]:
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-P", "-m", *several, "-m", "wizloop.backends.torch.launch", str(job)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": str(device == "cpu").lower()}
    if device == "cpu":
        # Where the base is divided, a card that is seen would take its shares.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    # The worker is spoken to on its stdin, and nobody else may read there.
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def _follow(running: subprocess.Popen[str], on_step: OnStep) -> dict[str, Any] | None:
    """What the first process says last, after on_step was called with each step that it reported."""
    assert running.stdout is not None
    for line in running.stdout:
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if "step" not in said:
            return dict(said)
        on_step(said["step"], said["steps"], said["loss"])
    return None


def main(path: Path) -> None:
    """One of the processes that do the job in a file. The first of them speaks."""
    import torch

    from wizloop.backends.torch import train as torch_train

    said = json.loads(path.read_text(encoding="utf-8"))
    if said["device"] != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))

    def report(step: int, steps: int, loss: float) -> None:
        _say({"step": step, "steps": steps, "loss": loss})
        if (path.parent / _STOP).exists():
            # Not 0: the others wait for this one, and are ended when it fails.
            raise SystemExit(1)

    train: Any = torch_train.train_dpo if said["kind"] == "dpo" else torch_train.train_sft
    lessons = [_lesson(said["kind"], each) for each in said["lessons"]]
    try:
        ended = asdict(train(_job(said["job"]), lessons, report, device=said["device"], sharded=said["sharded"]))
    except NotFinite as error:
        ended = {_NOT_FINITE: str(error)}
    except (MemoryError, RuntimeError) as error:
        if devices.out_of_memory(error):
            (path.parent / _NO_MEMORY).write_text(str(error), encoding="utf-8")
        raise
    if os.environ["RANK"] == "0":
        _say(ended)
    # Threads that still talk to the others would end a process with an abort.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _job(said: dict[str, Any]) -> TrainJob:
    paths = {each: said[each] and Path(said[each]) for each in ("start", "to", "checkpoint")}
    how = {"settings": TrainSettings(**said["settings"]), "lora": LoraShape(**said["lora"])}
    return TrainJob(**said | paths | how)


def _lesson(kind: str, said: dict[str, Any]) -> SftExample | DpoPair:
    asked = said["prompt"]
    said["prompt"] = Encoded(tuple(asked["shared"]), tuple(asked["body"]), asked["cut"])
    if kind == "dpo":
        return DpoPair(**said)
    return SftExample(**said | {"strong": tuple((first, last) for first, last in said["strong"])})


def _say(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
