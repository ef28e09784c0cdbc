"""DAVIS and YouTube-VOS as data sets of TensorFlow Datasets that are prepared and read without TensorFlow.

    builder = DavisFrames(config="480p", data_dir="~/tensorflow_datasets", file_format="array_record")
    builder.download_and_prepare()

The catalogue's own DAVIS encodes its masks by TensorFlow. `DavisFrames` takes everything else from it, such as where
the archive lies and which clip is in which split, and leaves the masks out; pictures are stored as the files they are.
"""

from collections.abc import Generator, Iterator
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.video.davis import davis

from gp_jax.data.sources import within


def _info(builder: tfds.core.DatasetBuilder, description: str) -> tfds.core.DatasetInfo:
    frames = tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3)))
    features = tfds.features.FeaturesDict({"name": tfds.features.Text(), "frames": frames})
    return tfds.core.DatasetInfo(builder=builder, description=description, features=features)


def _clips(folder: epath.Path, names: list[str]) -> Generator[tuple[str, dict[str, Any]], Any, None]:
    for name in names:
        yield name, {"name": name, "frames": sorted((folder / within(name)).glob("*.jpg"))}


class DavisFrames(davis.Davis):
    """DAVIS 2017 of the catalogue, frames only; configurations 480p and full_resolution."""

    def _info(self) -> tfds.core.DatasetInfo:
        return _info(self, "The frames of DAVIS 2017.")

    def _generate_examples(self, path: epath.Path) -> Generator[tuple[str, dict[str, Any]], Any, None]:
        assert isinstance(self.builder_config, davis.DavisConfig)
        resolution = "Full-Resolution" if self.builder_config.full_resolution else "480p"
        return _clips(path.parents[2] / "JPEGImages" / resolution, path.read_text().split())


class YoutubeVosFrames(tfds.core.GeneratorBasedBuilder):
    """YouTube-VOS from its folders, which its licence asks everybody to fetch in person."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder that holds train/JPEGImages, and perhaps valid/JPEGImages."

    def _info(self) -> tfds.core.DatasetInfo:
        return _info(self, "The frames of YouTube-VOS.")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        parts = {"train": "train", "validation": "valid"}
        folders = {split: dl_manager.manual_dir / part / "JPEGImages" for split, part in parts.items()}
        return {split: self._generate_examples(folder) for split, folder in folders.items() if folder.exists()}

    def _generate_examples(self, path: epath.Path) -> Iterator[tuple[str, dict[str, Any]]]:
        return _clips(path, sorted(clip.name for clip in path.iterdir() if clip.is_dir()))


BUILDERS = {"davis": DavisFrames, "youtube-vos": YoutubeVosFrames}
