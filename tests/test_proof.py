"""The table of README.md, which says what proves each invariant of the actor core."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = re.findall(r"^\| I(\d+) \|.*$", (HERE / "README.md").read_text(), re.MULTILINE)


def row_of(number: int) -> str:
    (row,) = re.findall(rf"^\| I{number} \|.*$", (HERE / "README.md").read_text(), re.MULTILINE)
    return str(row)


def test_the_table_has_each_invariant_once() -> None:
    assert [int(number) for number in ROWS] == list(range(1, 34))


@pytest.mark.parametrize("number", range(1, 34))
def test_each_invariant_is_proved_by_a_property_that_names_it(number: int) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row_of(number))
    assert named
    for file, test in named:
        source = (HERE / file).read_text()
        assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"
        assert f"i{number}_" in test


@pytest.mark.parametrize("number", range(1, 34))
def test_the_files_with_examples_have_some(number: int) -> None:
    *_, examples, _ = row_of(number).split("|")
    for file in re.findall(r"`([\w/]+\.py)`", examples):
        assert re.search(rf"def test_(i\d+_)*i{number}_", (HERE / file).read_text()), file
