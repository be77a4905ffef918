"""The sharing out of tests among the backends: each must be somebody's."""

import itertools

import pytest

from tests import conftest
from tests.run import FRAMEWORK, JOBS

pytestmark = pytest.mark.no_backend

TURN = [None, pytest.mark.in_turn.mark, pytest.mark.in_turn(always=True).mark, pytest.mark.in_turn("jax").mark]


class Case:
    """A collected test, as far as the choice looks at it."""

    def __init__(self, number, marks):
        self.nodeid, self.marks = f"tests/test_some.py::test_one[{number}]", {mark.name: mark for mark in marks}

    def get_closest_marker(self, name):
        return self.marks.get(name)

    def iter_markers(self, name):
        return [mark for mark in self.marks.values() if mark.name == name]


class Config:
    def __init__(self, complete):
        self.complete, self.hook = complete, self

    def getoption(self, name):
        return self.complete

    def pytest_deselected(self, items):
        assert items


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("turn", TURN, ids=str)
@pytest.mark.parametrize("others", [["no_backend"], [], ["full"], ["no_backend", "full"]], ids="-".join)
def test_every_case_runs_somewhere(complete, turn, others, monkeypatch):
    cases = [
        Case(n, [one for one in (turn, *(getattr(pytest.mark, o).mark for o in others)) if one]) for n in range(40)
    ]
    runs = {case.nodeid: [] for case in cases}
    for backend in ("numpy", "jax", "tensorflow", "torch"):
        monkeypatch.setattr(conftest, "BACKEND", backend)
        arguments = JOBS[backend][1]
        chosen = [case for case in cases if arguments != FRAMEWORK or not case.get_closest_marker("no_backend")]
        conftest.pytest_collection_modifyitems(Config(complete), chosen)
        for case in chosen:
            runs[case.nodeid].append(backend)
    times = {len(found) for found in runs.values()}
    if "full" in others and not complete:
        assert times == {0}
    elif "no_backend" in others:
        assert list(itertools.chain(*runs.values())) == ["numpy"] * len(cases)
    else:
        assert min(times) >= 1
