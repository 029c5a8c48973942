#!/usr/bin/env python3
"""Make a mosaic centred on a calibrator's transit and publish it: the same as `dsaflow mosaic create`.

Exit codes: docs/create-mosaic.md.
"""

from dsaflow.cli.mosaic import main

if __name__ == "__main__":
    main()
