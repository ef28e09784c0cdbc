"""Video from still pictures: a smooth camera path, and the frames that a camera on it sees.

Real footage with a free licence is scarce; photos and panoramas are not. A camera that pans, tilts, zooms and rolls
over a picture gives frames with real texture and exactly consistent motion, which is what a model learns outpainting
from:

    photo = cv2.cvtColor(cv2.imread("photo.jpg"), cv2.COLOR_BGR2RGB)
    path = fit_path(window_path(rng, 57, aspect=128 / 72), photo.shape, rng, least_width=128)
    frames = render_windows([photo] * 57, path, (72, 128))                  # [57, 72, 128, 3], uint8

A path over a flat picture is the four corners of the camera's window in every frame. `fit_path` scales and places the
whole path at once so that no corner ever leaves the picture: there are no borders to invent. Everything is drawn at
twice the size and averaged down, which keeps fine texture from flickering as it moves.
"""

from collections.abc import Sequence

import cv2
import numpy as np

SUPERSAMPLING = 2


def smooth_path(rng: np.random.Generator, frames: int, span: float, smoothness: float = 9.0) -> np.ndarray:
    """A smooth random curve over time, of any shape between a steady drift and a wander.

    Args:
      rng: source of randomness.
      frames: length F of the curve.
      span: highest minus lowest value.
      smoothness: standard deviation, in frames, of the Gaussian that smooths the velocity.

    Returns:
      [F] float64, centred on zero.
    """
    radius = int(4 * smoothness)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / smoothness) ** 2)
    wander = np.convolve(rng.normal(size=frames + 2 * radius), kernel / np.linalg.norm(kernel), mode="valid")
    path = np.cumsum(wander + rng.uniform(-2, 2))
    path -= (path.max() + path.min()) / 2
    return path * (span / max(np.ptp(path), 1e-9))


def window_path(rng: np.random.Generator, frames: int, aspect: float, motion: float = 1.0) -> np.ndarray:
    """The corners of a moving camera window, in units of the window's height and at no particular place.

    Args:
      rng: source of randomness.
      frames: number F of frames.
      aspect: width over height of the window.
      motion: multiplies pan, zoom, roll and tilt; 0 is a camera on a tripod.

    Returns:
      [F, 4, 2] corners x, y: top left, top right, bottom right, bottom left.
    """
    travel = motion * np.exp(rng.uniform(np.log(0.15), np.log(1.2)))
    direction = rng.uniform(0, 2 * np.pi)
    shake = motion * rng.choice([0.0, 0.01, 0.02])

    def around(span: float) -> np.ndarray:
        return smooth_path(rng, frames, motion * span)

    centre = np.stack(
        [
            smooth_path(rng, frames, travel * aspect * abs(np.cos(direction))),
            smooth_path(rng, frames, 0.6 * travel * abs(np.sin(direction))),
        ],
        axis=-1,
    )
    centre += np.stack([smooth_path(rng, frames, shake, smoothness=2.5) for _ in range(2)], axis=-1)
    zoom = np.exp(around(rng.choice([0.0, rng.uniform(0, 0.5)])))
    roll = around(rng.choice([0.0, rng.uniform(0, 0.15)])) + motion * rng.normal(scale=0.02)
    tilt = np.stack([around(rng.uniform(0, 0.15)), around(rng.uniform(0, 0.15))], axis=-1)

    corners = 0.5 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [aspect, 1]
    turn = np.stack([np.cos(roll), -np.sin(roll), np.sin(roll), np.cos(roll)], axis=-1).reshape(frames, 2, 2)
    depth = 1 + np.einsum("fi,ci->fc", tilt, corners)
    turned = np.einsum("fij,cj->fci", turn, corners) / depth[..., None]
    return centre[:, None] + zoom[:, None, None] * turned


def fit_path(
    corners: np.ndarray, shape: Sequence[int], rng: np.random.Generator, least_width: float, least_fill: float = 0.4
) -> np.ndarray:
    """Scales and places a path so that all of it lies inside a picture.

    Args:
      corners: [F, 4, 2] as `window_path` gives them.
      shape: height, width (and channels) of the picture.
      rng: chooses scale and place.
      least_width: the window's top edge stays at least this many pixels long, if the picture is large enough for that.
      least_fill: smallest scale, as a share of the largest that fits.

    Returns:
      [F, 4, 2] corners in pixel centres: x in [0, width - 1], y in [0, height - 1].
    """
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    room = np.array([shape[1], shape[0]]) - 1.0
    largest = np.min(room / (high - low))
    narrowest = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1).min()
    least = np.clip(least_width / (narrowest * largest), least_fill, 1.0)
    scale = largest * rng.uniform(least, 1.0)
    slack = np.maximum(room - scale * (high - low), 0.0)
    return np.clip(scale * (corners - low) + rng.uniform(size=2) * slack, 0.0, room)


def render_windows(
    pictures: Sequence[np.ndarray],
    corners: np.ndarray,
    size: tuple[int, int],
    layer: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """What the camera sees: one window of one picture for every frame.

    Args:
      pictures: F pictures [h, w, 3], uint8; one picture F times for a still.
      corners: [F, 4, 2] window corners in pixels of the picture.
      size: height H and width W of the frames.
      layer: an object in front of the picture, from `blob_layer`.

    Returns:
      [F, H, W, 3] uint8.
    """
    height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    target = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    # A photo far larger than its frames is shrunk once, or sampling would skip over most of its pixels.
    excess = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1).mean() / width
    still = pictures[0]
    if excess > 1.5 and all(picture is still for picture in pictures):
        small = cv2.resize(still, None, fx=1 / excess, fy=1 / excess, interpolation=cv2.INTER_AREA)
        corners = corners * (np.array([small.shape[1], small.shape[0]]) - 1) / (np.array(still.shape[1::-1]) - 1)
        pictures = [small] * len(pictures)
    frames = np.empty((len(corners), *size, 3), np.uint8)
    for index, (picture, window) in enumerate(zip(pictures, corners)):
        inverse = cv2.getPerspectiveTransform(target, window.astype(np.float32))
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        frame = cv2.warpPerspective(picture, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        if layer is not None:
            frame = _paste(frame, *(part if i < 2 else part[index] for i, part in enumerate(layer)))
        frames[index] = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
    return frames


def blob_layer(
    rng: np.random.Generator, photo: np.ndarray, frames: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An object of its own shape, texture and motion, to hide and reveal what lies behind it.

    Args:
      rng: source of randomness.
      photo: [h, w, 3] uint8, the texture.
      frames: number F of frames.
      size: height and width of the frames it will cross.

    Returns:
      texture [s, s, 3] uint8, opacity [s, s] float32 in [0, 1] and one 2x3 affine map per frame [F, 2, 3] from the
      texture to the supersampled frame.
    """
    side = SUPERSAMPLING * min(size)
    cut = max(side, min(photo.shape[:2]) // 2)
    cut = min(cut, *photo.shape[:2])
    top, left = (rng.integers(0, extent - cut + 1) for extent in photo.shape[:2])
    texture = cv2.resize(photo[top : top + cut, left : left + cut], (side, side), interpolation=cv2.INTER_AREA)

    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle = np.arctan2(y, x)
    outline = 0.7 + sum(rng.normal(scale=0.08 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(1, 6))
    outline = np.clip(outline, 0.3, 0.95)
    opacity = np.clip((outline - np.hypot(x, y)) * side / 6 + 0.5, 0, 1).astype(np.float32)

    frame_size = SUPERSAMPLING * np.array(size[::-1])
    centre = frame_size * rng.uniform(0.15, 0.85, size=2)
    travel = frame_size * np.exp(rng.uniform(np.log(0.1), np.log(1.5), size=2)) * [1.0, 0.5]
    centre = centre + np.stack([smooth_path(rng, frames, span) for span in travel], axis=-1)
    scale = rng.uniform(0.4, 0.9) * np.exp(smooth_path(rng, frames, rng.uniform(0, 0.4)))
    roll = smooth_path(rng, frames, rng.uniform(0, 0.5))
    cosine, sine = scale * np.cos(roll), scale * np.sin(roll)
    turn = np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(frames, 2, 2)
    shift = centre - np.einsum("fij,j->fi", turn, np.array([side / 2, side / 2]))
    return texture, opacity, np.concatenate([turn, shift[..., None]], axis=-1)


def render_panorama(
    panorama: np.ndarray, rng: np.random.Generator, frames: int, size: tuple[int, int], motion: float = 1.0
) -> np.ndarray:
    """A perspective camera that turns inside an equirectangular panorama.

    Args:
      panorama: [h, 2h, 3] uint8; its columns go around the horizon, its rows from straight up to straight down.
      rng: chooses the path.
      frames: number F of frames.
      size: height H and width W of the frames.
      motion: multiplies the camera's turn.

    Returns:
      [F, H, W, 3] uint8.
    """
    height, width = size
    # The smaller side sees 45 to 75 degrees; more would stretch the corners, less would show the panorama's pixels.
    view = np.radians(rng.uniform(45, 75)) * np.exp(smooth_path(rng, frames, rng.choice([0.0, rng.uniform(0, 0.3)])))
    travel = motion * np.exp(rng.uniform(np.log(0.1), np.log(1.6)))
    yaw = rng.uniform(0, 2 * np.pi) + smooth_path(rng, frames, travel)
    pitch = rng.normal(scale=0.15) + smooth_path(rng, frames, motion * rng.uniform(0, 0.35))
    roll = motion * rng.normal(scale=0.02) + smooth_path(rng, frames, motion * rng.choice([0.0, 0.12]))
    shake = motion * rng.choice([0.0, 0.005, 0.01])
    yaw += smooth_path(rng, frames, shake, smoothness=2.5)
    pitch += smooth_path(rng, frames, shake, smoothness=2.5)

    rows, columns = height * SUPERSAMPLING, width * SUPERSAMPLING
    y, x = np.mgrid[0:rows, 0:columns] + 0.5
    x, y = (2 * x - columns) / min(rows, columns), (2 * y - rows) / min(rows, columns)
    out = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        ray = np.stack([x, y, np.full_like(x, 1 / np.tan(view[index] / 2))], axis=-1)
        ray = ray @ _rotation(yaw[index], pitch[index], roll[index]).T
        longitude = np.arctan2(ray[..., 0], ray[..., 2])
        latitude = np.arctan2(ray[..., 1], np.hypot(ray[..., 0], ray[..., 2]))
        u = (longitude / (2 * np.pi) % 1.0) * panorama.shape[1] - 0.5
        v = (latitude / np.pi + 0.5) * panorama.shape[0] - 0.5
        frame = cv2.remap(
            panorama, u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP
        )
        out[index] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return out


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def _paste(frame: np.ndarray, texture: np.ndarray, opacity: np.ndarray, affine: np.ndarray) -> np.ndarray:
    size = frame.shape[1::-1]
    front = cv2.warpAffine(texture, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(opacity, affine, size, flags=cv2.INTER_LINEAR)[..., None]
    return (frame + alpha * (front.astype(np.float32) - frame)).round().astype(np.uint8)
