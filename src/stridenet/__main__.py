"""`python -m stridenet` is `stridenet`."""

from stridenet.cli import main

if __name__ == "__main__":
    main()
