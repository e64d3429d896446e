"""The program of a supervisor in the background: what daemon.py executes.

    python -P -m moonpool.wiring.background DATA DOCUMENT REPORTS

DATA is for whoever reads the list of processes; the two others are supervising.py's.
"""

import sys

from moonpool.wiring.absent import COLOURS, without

MODULE = "moonpool.wiring.background"


def main(document: int, reports: int) -> int:
    with without(COLOURS):
        from moonpool.wiring.supervising import supervise
    return supervise(document, reports)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[2]), int(sys.argv[3])))
