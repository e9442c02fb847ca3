"""``python -m mesa_meanfield.cli``."""

import sys

from mesa_meanfield.cli import main

sys.exit(main())
