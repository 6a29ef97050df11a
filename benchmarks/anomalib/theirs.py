"""anomalib's half of the comparison, run by the Python that anomalib is installed in.

It imports nothing of this project. Every command prints one line of JSON, the last of its output.
Weights come from a file, so both sides compute with the same ones; anomalib's logger, visualiser, progress
bar and evaluator are off, and it neither splits off nor scores validation images.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib import PrecisionType
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from anomalib.models import Patchcore
from anomalib.models.components import KCenterGreedy
from anomalib.pre_processing import PreProcessor
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, Resize


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What ``work`` returns, its seconds and its CPU seconds."""
    started, cpu = time.perf_counter(), cpu_seconds()
    result = work()
    return result, time.perf_counter() - started, cpu_seconds() - cpu


def make_model(arguments: argparse.Namespace) -> Patchcore:
    resize = Resize((arguments.image_size, arguments.image_size), antialias=True)
    normalise = Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    model = Patchcore(
        backbone="tf_efficientnet_lite0",
        layers=["blocks.2", "blocks.4"],
        pre_trained=False,
        coreset_sampling_ratio=arguments.ratio,
        pre_processor=PreProcessor(transform=Compose([resize, normalise])),
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )
    network = model.model.feature_extractor.feature_extractor
    missing, unexpected = network.load_state_dict(load_file(arguments.weights), strict=False)
    head = ("conv_head.", "bn2.", "classifier.")
    assert not missing, missing
    assert all(name.startswith(head) for name in unexpected), unexpected
    return model


def make_engine(folder: Path) -> Engine:
    return Engine(
        logger=False,
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )


def features(arguments: argparse.Namespace) -> dict[str, Any]:
    """Patch features of (B, 3, S, S) float32 normalised images, as the model's training collects them."""
    model = make_model(arguments).model.train()
    batch = torch.from_numpy(np.load(arguments.input))
    np.save(arguments.output, model(batch).reshape(len(batch), -1, 152).detach().numpy())
    return {}


def coreset(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time `KCenterGreedy` with its own random projection: the whole loop, or a part and extrapolate."""
    torch.manual_seed(0)
    np.random.seed(0)
    embedding = torch.from_numpy(np.load(arguments.input))
    sampler = KCenterGreedy(embedding=embedding, sampling_ratio=arguments.ratio)
    size = sampler.coreset_size
    # One centre is drawn without a step of the loop: what is timed then is the projection alone, and the
    # first time it also starts the threads.
    sampler.coreset_size = 1
    sampler.select_coreset_idxs()
    _, setup, setup_cpu = timed(sampler.select_coreset_idxs)
    steps = min(arguments.steps or size - 1, size - 1)
    sampler.coreset_size = steps + 1
    indices, seconds, cpu = timed(sampler.select_coreset_idxs)
    if arguments.output:
        np.save(arguments.output, np.array(indices))
    step = (seconds - setup) / steps
    return {
        "seconds": setup + step * (size - 1),
        "cpu_seconds": setup_cpu + (cpu - setup_cpu) / steps * (size - 1),
        "measured_seconds": seconds,
        "setup_seconds": setup,
        "step_seconds": step,
        "steps": steps,
        "size": size,
        "projected": int(sampler.model.n_components),
    }


def fit(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit from image files; the driver times the whole process."""
    model, engine = make_model(arguments), make_engine(arguments.output)
    data = Folder(
        name="category",
        root=arguments.data,
        normal_dir="train/good",
        train_batch_size=arguments.batch_size,
        num_workers=arguments.workers,
        val_split_mode="none",
        test_split_mode="none",
    )
    engine.fit(model=model, datamodule=data)
    bank = model.model.memory_bank
    return {"checkpoint": str(engine.best_model_path), "bank": list(bank.shape)}


def predict(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time score and map of image files, after a warm-up on a few of them."""
    model = make_model(arguments)
    with torch.serialization.safe_globals([PrecisionType]):
        state = torch.load(arguments.model, weights_only=True)["state_dict"]
    own = model.state_dict()
    model.load_state_dict({name: value for name, value in state.items() if name in own})
    paths = arguments.paths.read_text(encoding="utf-8").split("\n")

    def run(some: list[str]) -> list[Any]:
        # As its data modules do, resize an image before it is put into a batch.
        dataset = PredictDataset(some[0], transform=model.pre_processor.transform.transforms[0])
        dataset.image_filenames = [Path(path) for path in some]
        loader = DataLoader(
            dataset,
            batch_size=arguments.batch_size,
            num_workers=arguments.workers,
            collate_fn=dataset.collate_fn,
        )
        return make_engine(arguments.output.parent).predict(model=model, dataloaders=loader)

    run(paths[: 2 * arguments.batch_size])
    batches, seconds, cpu = timed(lambda: run(paths))
    scores = torch.cat([batch.pred_score.reshape(-1) for batch in batches])
    maps = torch.cat([batch.anomaly_map.reshape(-1, *batch.anomaly_map.shape[-2:]) for batch in batches])
    assert len(scores) == len(maps) == len(paths)
    np.savez(arguments.output, scores=scores.numpy(), maps=maps.numpy())
    return {"seconds": seconds, "cpu_seconds": cpu, "images": len(paths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("features", "coreset", "fit", "predict"))
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--paths", type=Path)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.INFO)
    commands = {"features": features, "coreset": coreset, "fit": fit, "predict": predict}
    print(json.dumps(commands[arguments.command](arguments)))


if __name__ == "__main__":
    main()
