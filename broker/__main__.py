"""`python -m broker` is `credbroker`."""

from broker.cli import main

if __name__ == "__main__":
    main()
