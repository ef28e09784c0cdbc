"""`python -m gp_jax` is `gp-jax`, also where that is not on the path."""

import sys

from gp_jax.cli.main import main

sys.exit(main())
