"""Where the training files of the embedded model come from: packages, checksums, licences, credits.

Only permissive licences (public domain, CC0, CC-BY, MIT, BSD, Apache-2.0), since weights trained on the files are
shipped: pictures under share-alike or GPL terms in the same packages are left out, and so is every clip that the
project is tested on.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pick:
    """Files to take out of a package: a glob inside it, what they are, and whose.

    `prefix` goes before their names where folders of the package have files of the same name.
    """

    pattern: str
    kind: str
    licence: str
    credit: str
    prefix: str = ""


@dataclass(frozen=True)
class Package:
    """One archive of a registry; `nested` names a zip file inside it that is opened too."""

    registry: str
    name: str
    version: str
    archive: str
    sha256: str
    picks: tuple[Pick, ...]
    nested: str | None = None


def _named(folder: str, kind: str, licence: str, credit: str, names: str) -> tuple[Pick, ...]:
    return tuple(Pick(f"{folder}/{name}", kind, licence, credit) for name in names.split())


def _generated(package: str, version: str, sha256: str, names: str) -> Package:
    module = f"comfyui_workflow_templates_media_{package}"
    credit = "machine-made clips of the ComfyUI workflow templates, Comfy Org"
    picks = _named(f"{module}/templates", "generated", "MIT", credit, names)
    distribution = f"comfyui-workflow-templates-media-{package}"
    return Package("pypi-wheel", distribution, version, f"{module}-{version}-py3-none-any.whl", sha256, picks)


def _lomiri(name: str, author: str, licence: str = "CC-BY-4.0") -> Pick:
    return Pick(f"usr/share/backgrounds/{name}.jpg", "photo", licence, f"{name.split('_by_')[0]}, {author}, 2018")


POLY_HAVEN = "HDRI panoramas of Greg Zaal and others, Poly Haven"
PACKAGES = (
    Package(
        "pypi-source",
        "moviepy",
        "2.2.1",
        "moviepy-2.2.1.tar.gz",
        "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
        (
            Pick(
                "**/bbb.mp4",
                "film",
                "CC-BY-3.0",
                "Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org",
            ),
        ),
        nested="**/moviepy_10_minutes.zip",
    ),
    Package(
        "npm",
        "@pmndrs/assets",
        "1.7.0",
        "pmndrs-assets-1.7.0.tgz",
        "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
        # Its sunrise is the one of blender-data, smaller.
        _named(
            "package/hdri",
            "panorama",
            "CC0-1.0",
            POLY_HAVEN,
            "apartment.exr.js bridge.exr.js city.exr.js dawn.exr.js esplanade.exr.js forest.exr.js hall.exr.js"
            " lab.exr.js lobby.exr.js night.exr.js park.exr.js sky.exr.js studio.exr.js sunset.exr.js venice.exr.js"
            " warehouse.exr.js workshop.exr.js",
        ),
    ),
    Package(
        "debian",
        "blender-data",
        "3.4.1+dfsg-2",
        "blender-data_3.4.1+dfsg-2_all.deb",
        "5ceaf56a49ba3ded95c751d739aeec3d19e7fad76fba5cb70666986af9303b0e",
        (Pick("usr/share/blender/datafiles/studiolights/world/*.exr", "panorama", "CC0-1.0", POLY_HAVEN),),
    ),
    Package(
        "debian",
        "lomiri-wallpapers-16.04",
        "20.04.0-2",
        "lomiri-wallpapers-16.04_20.04.0-2_all.deb",
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        (
            _lomiri("aitzgorri_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("friends_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("life_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("sunset_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("Picture_0B_by_freespace", 'Trevor "Freespace"'),
            _lomiri("Picture_1A_by_freespace", 'Trevor "Freespace"'),
            _lomiri("Wine_by_Jakkub_Mede", "Jakub Mede"),
            _lomiri("seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0"),
        ),
    ),
    Package(
        "debian",
        "opencv-doc",
        "4.6.0+dfsg-12",
        "opencv-doc_4.6.0+dfsg-12_all.deb",
        "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
        _named(
            "usr/share/doc/opencv-doc/examples/data",
            "photo",
            "Apache-2.0 AND BSD-3-Clause",
            "sample pictures of OpenCV, OpenCV contributors",
            "aloeL.jpg board.jpg building.jpg butterfly.jpg chicky_512.png fruits.jpg graf1.png home.jpg leuvenA.jpg"
            " rubberwhale1.png squirrel_cls.jpg",
        ),
    ),
    Package(
        "pypi-wheel",
        "scikit-image",
        "0.26.0",
        "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        _named(
            "skimage/data",
            "photo",
            "CC0-1.0",
            "pictures of scikit-image: R. Michetti, S. van der Walt, NASA, SpaceX, D. Scharstein et al.",
            "coffee.png chelsea.png astronaut.png rocket.jpg motorcycle_left.png",
        ),
    ),
    Package(
        "pypi-wheel",
        "scikit-learn",
        "1.7.2",
        "scikit_learn-1.7.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
        (
            Pick("sklearn/datasets/images/china.jpg", "photo", "CC-BY-2.0", "china, danielbuechele"),
            Pick("sklearn/datasets/images/flower.jpg", "photo", "CC-BY-2.0", "flower, vultilion"),
        ),
    ),
    Package(
        "debian",
        "enlightenment-data",
        "0.25.4-2",
        "enlightenment-data_0.25.4-2_all.deb",
        "205df83b80b3a999757b07d7ad1908332c96c6edae559548346bc8af4f292bef",
        _named(
            "usr/share/enlightenment/data/backgrounds",
            "photo",
            "BSD-2-Clause",
            "backgrounds of Enlightenment, Carsten Haitzler and contributors",
            "Bamboo.edj God-Rays.edj Green-Maple.edj Lichen-Branches.edj Mountain.edj Red-Maple.edj"
            " Sea-of-Lanterns.edj Snow-Trees.edj Spruce-Needles.edj Sunset-Clouds.edj White-Flower.edj"
            " Yellow-Flower.edj",
        ),
    ),
    _generated(
        "image",
        "0.3.160",
        "d4a5c5541c7088f6adb1c7da41f5d7c1c14a037eda6a61cd8b4b76c251faaa93",
        "hunyuan_video_text_to_video-1.webp templates_rob_realistic_2k_images_quick_variations.app-1.webp"
        " video_kandinsky5_i2v-1.webp video_kandinsky5_t2v-1.webp video_ltx2_canny_to_video-1.webp"
        " video_ltx2_depth_to_video-1.webp video_ltx2_i2v-1.webp video_ltx2_i2v_distilled-1.webp"
        " video_ltx2_t2v-1.webp video_ltx2_t2v_distilled-1.webp video_wanmove_480p-1.webp"
        " video_wanmove_480p_hallucination-1.webp wan2.1_fun_inp-1.webp",
    ),
    _generated(
        "video",
        "0.3.101",
        "6270fd61c8c3931b6f0031abac7d4c90ced624de6c7918bff85b89e6c3d7493c",
        "api_kling_dual_characters_effects-1.webp api_kling_o3_flf2v-1.webp api_kling_v3_video-1.webp"
        " ltxv_image_to_video-1.webp ltxv_text_to_video-1.webp video_hunyuan_video_1.5_720p_i2v-1.webp"
        " video_hunyuan_video_1.5_720p_t2v-1.webp video_wan2.1_fun_camera_v1.1_1.3B-1.webp"
        " video_wan2.1_fun_camera_v1.1_14B-1.webp video_wan2_2_14B_fun_camera-1.webp video_wan2_2_14B_s2v-1.webp"
        " video_wan2_2_14B_t2v-1.webp video_wan2_2_5B_fun_control-1.webp video_wan2_2_5B_ti2v-1.webp"
        " video_wan_vace_14B_t2v-1.webp video_wan_vace_14B_v2v-1.webp video_wan_vace_14B_v2v-2.webp"
        " video_wan_vace_flf2v-1.webp",
    ),
)
