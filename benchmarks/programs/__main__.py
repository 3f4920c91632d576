"""Take one measurement, and print it: `python -m benchmarks.programs MODULE FUNCTION NUMBER...`.

Each has a process of its own, so that nobody's garbage or threads are in another's figure.
"""

import argparse
from importlib import import_module


def main() -> None:
    """Run the function, once short to warm up unless it measures memory, then at full length."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__)
    parser.add_argument("module")
    parser.add_argument("function")
    parser.add_argument("size", type=int, help="how many operations, or actors")
    parser.add_argument("numbers", type=int, nargs="*", help="what else the function takes")
    options = parser.parse_args()
    program = import_module(f"{__package__}.{options.module}")
    function = getattr(program, options.function)
    if not options.function.startswith("idle"):
        program.run(function, options.size // 10 + 1, *options.numbers)
    print(program.run(function, options.size, *options.numbers))


if __name__ == "__main__":
    main()
