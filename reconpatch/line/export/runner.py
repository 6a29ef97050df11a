"""Score images with the exported detector beside this file; needs onnxruntime, numpy and Pillow alone.

python runner.py IMAGE ... [--maps DIR] [--threads N]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM")


def open_detector(threads: int = 0) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """The session and what detector.json says; 0 threads: every core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return session, json.loads((HERE / "detector.json").read_text())


def prepare(path: Path, facts: dict[str, Any]) -> np.ndarray:
    """(1, S, S, 3) uint8 as the detector sees the image; each value within 1 of the detector's own resize."""
    image: Image.Image = Image.open(path, formats=FORMATS)
    image.load()
    # Pillow has scaled the 16 bits of a PGM to 0..65535, in 32.
    has_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    image = ImageOps.exif_transpose(image)
    if has_16_bits:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("has 32-bit values without an agreed range; save 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    side, size = facts["resize"], facts["image_size"]
    pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    start = (side - size) // 2
    return np.ascontiguousarray(pixels[start : start + size, start : start + size])[None]


def main() -> int:
    """Print path, score and verdict of each image; 1 when one cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--maps", type=Path, help="folder for the anomaly maps as .npy")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    session, facts = open_detector(arguments.threads)
    failed, written = 0, set()
    for path in arguments.images:
        try:
            image = prepare(path, facts)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = 1
            continue
        (score,), (anomaly_map,), (rejected,), (to_review,) = session.run(None, {"images": image})
        verdict = "anomalous" if rejected else "good (review)" if to_review else "good"
        print(f"{path}\t{score:.6f}\t{verdict}")
        if arguments.maps is not None:
            arguments.maps.mkdir(parents=True, exist_ok=True)
            target, number = arguments.maps / f"{path.stem}.npy", 1
            while target in written:
                target, number = arguments.maps / f"{path.stem}-{number}.npy", number + 1
            written.add(target)
            np.save(target, anomaly_map)
    return failed


if __name__ == "__main__":
    sys.exit(main())
