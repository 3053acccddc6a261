"""A caller killed among faults, over real wire formats, in a process of its own: benchmarks/teachers.py, few calls."""

from tests.benchmarks.running import objects, printed

FEW = ("--provider", "gemini", "--calls", "60")


def test_live_calls_are_never_paid_twice_and_every_bill_is_in_the_ledger() -> None:
    (report,) = objects(printed("teachers.py", "kills", *FEW, "--kills", "2", "--cap-share", "0.6"))
    assert report["wrong"] == []
    assert report["kills"] == 2
    assert report["lost_in_flight"] <= 32
    assert sum(report["fates"].values()) == 60
    assert report["fates"]["waits for budget"] > 0
    assert report["cap_micro"] >= report["settled_micro"] + report["ambiguous_micro"] >= report["billed_micro"] > 0


def test_batches_leave_nothing_in_doubt_and_nothing_twice() -> None:
    (report,) = objects(printed("teachers.py", "kills", *FEW, "--kills", "1", "--mode", "batch", "--seed", "3"))
    assert report["wrong"] == []
    assert report["kills"] == 1
    assert (report["lost_in_flight"], report["billed_twice"], report["ambiguous_micro"]) == (0, 0, 0)
    assert sum(report["fates"].values()) == 60
