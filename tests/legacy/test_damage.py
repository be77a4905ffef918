"""Files of every kind, damaged at random: some cases of `tests/legacy/damage.py`, more in the complete run."""

import pytest

from tests.legacy import damage

pytestmark = pytest.mark.in_turn(always=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return damage.containers(tmp_path_factory.mktemp("containers"))


def good(numbers, found, tmp_path):
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        name, outcome, problem = damage.run(number, found, folder)
        assert problem is None, f"case {number} ({name}, {outcome}): {problem}"


@pytest.mark.in_turn("numpy", always=True)
def test_damaged_files(found, tmp_path):
    good(range(100), found, tmp_path)


@pytest.mark.in_turn("numpy", always=True)
@pytest.mark.full
def test_more_damaged_files(found, tmp_path):
    good(range(100, 500), found, tmp_path)


def test_a_case_is_the_same_every_time(found, tmp_path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        damage.run(7, found, folder)
        contents.append([path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()])
    assert contents[0] == contents[1]


def test_what_is_wrong_is_seen(tmp_path):
    def load(path):
        raise RuntimeError("odd")

    only = damage.Container("odd", damage.FIXTURES / "keras-2.2.4-tensorflow" / "single.h5", load=load)
    name, outcome, problem = damage.run(1, [only], tmp_path)
    assert (name, outcome) == ("odd", "another error")
    assert "RuntimeError: odd" in problem
