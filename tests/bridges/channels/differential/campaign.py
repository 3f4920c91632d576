"""How long the differential tests search: a moment in the suite, as long as one likes by hand.

`DIFFERENTIAL=20 pytest tests/bridges/channels/differential -o timeout=0` draws twenty times
as many examples.
"""

import os
from typing import Final

from hypothesis import Phase, settings

TIMES: Final = int(os.environ.get("DIFFERENTIAL", "1"))

# Explaining a failure traces each line, in a program of threads and loops: it takes minutes.
PHASES: Final = tuple(phase for phase in Phase if phase is not Phase.explain)


def campaign(examples: int) -> settings:
    """Give the settings of a property that draws so many examples in the suite."""
    return settings(deadline=None, max_examples=examples * TIMES, phases=PHASES)
