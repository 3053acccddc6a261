"""`python -m wizloop` is the command `wizloop`."""

from wizloop.loop.cli import main

if __name__ == "__main__":
    main()
