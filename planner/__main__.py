"""`python -m planner` is `infopt`."""

from planner.cli import main

if __name__ == "__main__":
    main()
