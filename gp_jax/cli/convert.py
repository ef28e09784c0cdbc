"""Brings checkpoints into this package's layout, or back into others.

SOURCE is recognised by its content: diffusers folders (safetensors, .fp16., sharded, .bin), single Stable Diffusion
files (.safetensors, .ckpt), their ControlNets, CLIP towers of transformers and open_clip, M3DDM's folder and M3DDM+'s
checkpoints, MOTIA's folder, checkpoints of this package (its own, `tiny`, by name), and the working directories of
`gp-jax train`, whose newest state is taken.
Every tensor must have its place; what is missing, unexpected or of another shape is listed, and nothing is written.

examples:
  gp-jax convert stable-diffusion-2-inpainting/ my_model/ --dtype bfloat16
  gp-jax convert v1-5-pruned.safetensors my_model/ --motion mm_sd_v15_v2.ckpt --tokenizer clip-vit-large-patch14/
  gp-jax convert CLIP-ViT-H-14-laion2B-s32B-b79K/ my_model/ --only clip
  gp-jax convert M3DDM-Video-Outpainting/ m3ddm/ --vae stable-diffusion-v1-5/
  gp-jax convert Be-Your-Outpainter/ motia/
  gp-jax convert my_model/ their_model/ --to diffusers
  gp-jax convert run/ newest/ --dtype bfloat16
  gp-jax convert run/state/12000/ raw/ --raw-weights
  gp-jax convert --describe my_model/
"""

import argparse

from gp_jax.cli import arguments as parse
from gp_jax.errors import UserError

DTYPES = ("float32", "bfloat16", "float16")
FORMATS = ("gp_jax", "diffusers", "ldm", "open_clip", "animatediff", "m3ddm", "motia")
COMPONENTS = ("unet", "interpolation_unet", "vae", "global_tokens", "clip", "text", "m3ddm", "controlnet")

# What --describe has no use for; and what has none without SOURCE.
_OF_WRITING = "to", "dtype", "raw_weights", "tokenizer", "vae", "prediction_type", "seed"
_OF_SOURCE = "only", "motion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a file, a folder, or tiny")
    parser.add_argument(
        "dest", metavar="DEST", nargs="?", help="a new folder or file; or a checkpoint, to which components are added"
    )
    parser.add_argument("--to", choices=FORMATS, metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: gp_jax)")
    parser.add_argument("--dtype", choices=DTYPES, metavar="TYPE", help=f"cast to {', '.join(DTYPES)}; kept otherwise")
    parser.add_argument(
        "--only", type=_components, metavar="A,B", help=f"components to take, of {', '.join(COMPONENTS)}"
    )
    parser.add_argument(
        "--raw-weights", action="store_true", help="of a training state: the weights as they are, not their average"
    )
    parser.add_argument(
        "--motion", metavar="FILE", help="AnimateDiff's motion modules, for the UNet's temporal attention"
    )
    parser.add_argument("--tokenizer", metavar="DIR", help="CLIP's vocab.json and merges.txt, for sources without them")
    parser.add_argument("--vae", metavar="DIR", help="a Stable Diffusion or its autoencoder, for sources without one")
    parser.add_argument(
        "--prediction-type",
        choices=("epsilon", "v_prediction"),
        metavar="TYPE",
        help="epsilon or v_prediction, for single files, which do not say it",
    )
    parser.add_argument(
        "--seed", type=parse.seed, default=0, metavar="N", help="for modules that the source does not have"
    )
    parser.add_argument(
        "--describe", action="store_true", help="only report; without SOURCE, on the models that this package knows"
    )


def run(arguments: argparse.Namespace) -> None:
    """Converts or describes, and prints the report."""
    if arguments.source is None and not arguments.describe:
        raise UserError("give SOURCE and DEST (see gp-jax convert --help)")
    if arguments.source is not None and (arguments.dest is None) != arguments.describe:
        raise UserError("give DEST, or --describe to write nothing")
    unused = _OF_WRITING * arguments.describe + _OF_SOURCE * (arguments.source is None)
    if given := [name.replace("_", "-") for name in unused if getattr(arguments, name)]:
        what = "--describe" if given[0] not in _OF_SOURCE else "--describe without SOURCE"
        raise UserError(f"{what} takes no --{given[0]}: leave it out")

    from gp_jax import convert

    if arguments.source is None:
        print("\n".join(map(str, convert.describe_known())))
    elif arguments.describe:
        print(convert.describe(arguments.source, only=arguments.only, motion=arguments.motion))
    else:
        report = convert.convert(
            arguments.source,
            arguments.dest,
            to=arguments.to or "gp_jax",
            dtype=arguments.dtype,
            only=arguments.only,
            averaged=not arguments.raw_weights,
            motion=arguments.motion,
            tokenizer=arguments.tokenizer,
            vae=arguments.vae,
            prediction_type=arguments.prediction_type,
            seed=arguments.seed,
        )
        print(f"{report}\nwritten to {arguments.dest}")


def _components(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in COMPONENTS]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(COMPONENTS)}")
    return names
