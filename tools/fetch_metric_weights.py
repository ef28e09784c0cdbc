"""Another spelling of `gp-jax fetch`, which fetches the weights that LPIPS and FVD need.

python tools/fetch_metric_weights.py                    everything, about 110 MB
"""

import sys

from gp_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["fetch", *sys.argv[1:]]))
