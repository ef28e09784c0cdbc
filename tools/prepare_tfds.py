"""Prepares DAVIS or YouTube-VOS by TensorFlow Datasets, without TensorFlow; `build_records.py tfds` reads the result.

    python tools/prepare_tfds.py davis ~/tensorflow_datasets
    python tools/prepare_tfds.py youtube-vos ~/tensorflow_datasets --folder YouTubeVOS/

DAVIS is downloaded (or taken from the folder of downloads that TFDS keeps), from where the catalogue says it lies.
YouTube-VOS has to be there already, with train/JPEGImages in its folder.
"""

import argparse
from pathlib import Path

from jobs import run

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.data.tfds_frames import BUILDERS
from gp_jax.errors import UserError


def prepare(arguments: argparse.Namespace) -> None:
    """Prepares the data set and prints the folder that it lies in."""
    if (arguments.folder is None) == (arguments.name == "youtube-vos"):
        raise UserError("youtube-vos needs --folder, and davis takes none")
    if arguments.folder and not (arguments.folder / "train" / "JPEGImages").is_dir():
        raise UserError(f"{arguments.folder} is not YouTube-VOS: there is no train/JPEGImages in it")

    import tensorflow_datasets as tfds

    config = {"config": arguments.resolution} if arguments.name == "davis" else {}
    builder = BUILDERS[arguments.name](data_dir=arguments.data_dir, file_format="array_record", **config)
    manual = {"manual_dir": arguments.folder} if arguments.folder else {}
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**manual))
    print(builder.data_path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("name", choices=BUILDERS, help="which data set")
    parser.add_argument("data_dir", type=Path, help="folder of prepared data sets")
    parser.add_argument("--folder", type=Path, help="youtube-vos: where its train/ lies")
    parser.add_argument("--resolution", default="480p", choices=("480p", "full_resolution"), help="davis")
    return parser.parse_args()


if __name__ == "__main__":
    run(prepare, parse())
