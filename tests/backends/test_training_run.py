"""What one training does on any backend: its rate at each step, and when it writes a checkpoint."""

from pathlib import Path

import pytest

from tests.backends.lessons import LORA, SETTINGS
from wizloop.backends.guard_types import TrainJob
from wizloop.backends.training_rows import Plan
from wizloop.backends.training_run import TrainingRun, rate_share


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
def test_the_rate_rises_in_a_line_to_its_peak_and_falls_to_a_tenth_of_it(warmup: float) -> None:
    shares = [rate_share(step, 100, warmup) for step in range(100)]
    rising = int(100 * warmup)
    assert shares[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert shares[rising] == 1.0
    assert shares[rising:] == sorted(shares[rising:], reverse=True)
    assert shares[-1] == pytest.approx(0.1, abs=0.001)


def test_a_checkpoint_is_written_when_five_minutes_have_passed_though_no_step_is_due(tmp_path: Path) -> None:
    now = 0.0
    job = TrainJob("base", None, SETTINGS, LORA, tmp_path / "to", tmp_path / "ck")
    run = TrainingRun(job, Plan([10] * 80, SETTINGS, "data"), lambda *_: None, lambda: now)
    written: list[int] = []
    # None is a multiple of checkpoint_every, 3, and each takes 70 seconds: the fifth ends 350 after the start.

    def write(folder: Path) -> None:
        written.append(step)

    for step in (4, 5, 7, 8, 10, 11, 13, 14, 16, 17):
        now += 70
        run.report(step, 1.0, write)
    assert written == [10, 17]
    (last,) = (tmp_path / "ck").glob("step-*")
    assert last.name == "step-0000017"
