"""Takes one kind of video module out of a trained checkpoint: what the network makes of it shows in what is lost.

    python tools/mute_modules.py W/full-0/checkpoint without_windows --modules windows
    gp-jax evaluate --protocol m3ddm-96 --data DAVIS --output muted --method globalpaint:without_windows

The networks' last layers of such modules are set to zero, so that each adds nothing to what goes past it; of tokens it
is what attention reads of them.
"""

import argparse
import re
import shutil
from pathlib import Path

import jobs
import numpy as np

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.checkpoint.tensors import read_tensors, write_tensors
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.errors import UserError
from gp_jax.files import check_outside, replacing_folder

MODULES = {
    "temporal": r"temporal\.(output|convolution)\.",
    "windows": r"\.windowed\.output\.",
    "tokens": r"\.global_value\.",
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint folder, or tiny")
    parser.add_argument("target", type=Path, help="a new folder")
    parser.add_argument("--modules", choices=MODULES, required=True, help="that are to add nothing")
    return parser.parse_args()


def main(arguments: argparse.Namespace) -> None:
    """Writes the new checkpoint, whole or not at all."""
    source, pattern = find_checkpoint(arguments.checkpoint), re.compile(MODULES[arguments.modules])
    check_outside(arguments.target, source)
    with replacing_folder(arguments.target, overwrite=False) as building:
        shutil.copytree(source, building, dirs_exist_ok=True)
        muted = 0
        for file in sorted(building.glob(f"*unet/{WEIGHTS_FILE}")):
            tensors = dict(read_tensors(source / file.relative_to(building)))
            wanted = {name: np.zeros(x.shape, x.dtype) for name, x in tensors.items() if pattern.search(name)}
            write_tensors(file, tensors | wanted)
            muted += len(wanted)
        if not muted:
            raise UserError(f"{arguments.checkpoint} has no {arguments.modules}: there is nothing to mute")
    print(f"{arguments.target}: {arguments.checkpoint} without {arguments.modules}, {muted} tensors of zeros")


if __name__ == "__main__":
    jobs.run(main, parse())
