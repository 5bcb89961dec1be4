"""Small synthetic slides: white glass with pink and purple tissue."""

import numpy as np
import tifffile
from scipy import ndimage

GLASS, EOSIN, HAEMATOXYLIN = (243, 242, 244), (226, 160, 198), (110, 70, 150)


def picture(width=2048, height=1536, blobs=((0.3, 0.4, 0.2), (0.72, 0.6, 0.22)), seed=0):
    """RGB (height, width, 3): glass with a piece of tissue at each (x, y, radius), as shares of width and height."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wobble = ndimage.zoom(rng.normal(size=(8, 8)).astype(np.float32), (height / 8, width / 8), order=1)
    is_tissue = np.zeros((height, width), dtype=bool)
    for at_x, at_y, radius in blobs:
        distance = np.hypot((x / width - at_x) * width / height, y / height - at_y)
        is_tissue |= distance < radius * (1 + 0.15 * wobble[:height, :width])
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)).astype(np.float32), 2.0)
    nuclei = (noise / noise.std() > 1.1) & is_tissue
    shade = rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    colours = np.where(nuclei[..., None], HAEMATOXYLIN, np.where(is_tissue[..., None], EOSIN, GLASS)) + shade
    return np.clip(colours, 0, 255).astype(np.uint8)


def halved(image, k=2):
    """Means of k x k pixels, as a scanner makes the levels of a pyramid."""
    height, width = (side // k * k for side in image.shape[:2])
    parts = image[:height, :width].reshape(height // k, k, width // k, k, 3)
    return np.rint(parts.mean(axis=(1, 3))).astype(np.uint8)


def write_slide(
    path,
    image=None,
    mpp=0.5,
    levels=(1, 4),
    tile=256,
    compression="jpeg",
    photometric="ycbcr",
    layout="pages",
    description="generic",
):
    """Writes a tiled pyramid and returns its path.

    photometric: how JPEG stores colours. layout: "pages" or "subifds". description: "aperio", "ome" or "generic" (TIFF
    tags), which states `mpp`; None = nowhere.
    """
    image = picture() if image is None else image
    form = {"tile": (tile, tile), "compression": compression, "photometric": "rgb", "metadata": None}
    if compression == "jpeg":
        form["compressionargs"] = {"level": 90, "outcolorspace": photometric}
        form["subsampling"] = (2, 2) if photometric == "ycbcr" else (1, 1)
    if mpp is not None and description == "generic":
        form |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    text = None
    if description == "aperio":
        stated = "" if mpp is None else f"|MPP = {mpp}"
        height, width = image.shape[:2]
        text = f"Aperio Image Library v12.0.0 \r\n{width}x{height} ({tile}x{tile}) JPEG/RGB Q=90|AppMag = 20{stated}"
    if description == "ome":
        form["metadata"] = {"axes": "YXS"}
        if mpp is not None:
            form["metadata"] |= {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp, "PhysicalSizeXUnit": "µm"}
    with tifffile.TiffWriter(path, ome=description == "ome") as file:
        nested = layout == "subifds"
        file.write(image, subifds=len(levels) - 1 if nested else None, description=text, **form)
        form["metadata"] = None
        for k in levels[1:]:
            file.write(halved(image, k), subfiletype=1, description=text, **form)
    return path
