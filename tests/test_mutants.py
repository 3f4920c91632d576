"""The faults that `mutants.py` plants still fit the sources."""

import pytest
from tests.mutants import ROOT
from tests.mutations import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source_that_it_breaks_and_names_tests_that_are_there(
    mutant: Mutant,
) -> None:
    path = ROOT / mutant.file
    mutated = mutant.mutate(path.read_text())
    compile(mutated, str(path), "exec")
    assert mutant.tests
    assert all((ROOT / test).is_file() for test in mutant.tests)


def test_no_two_mutants_have_the_same_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names))


def test_a_mutant_that_does_not_fit_says_so() -> None:
    mutant = Mutant("off by one", "actors/_mailbox.py", "there is no such line", "", ())
    with pytest.raises(ValueError, match=r"'off by one' does not fit .* stands there 0 times"):
        mutant.mutate("another text")
