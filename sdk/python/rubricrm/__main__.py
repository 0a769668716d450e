"""`python -m rubricrm`: the command line."""

from rubricrm.cli import main

if __name__ == "__main__":
    main()
