"""`python -m greenroom`, which is the command `greenroom`."""

from .bridges.command import main as main

if __name__ == "__main__":
    main(prog_name="greenroom")
