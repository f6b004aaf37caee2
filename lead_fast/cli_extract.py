"""``lead-fast extract``: models and images in, a zoo out."""

from __future__ import annotations

import sys

from ._arguments import EXIT_FAILED, EXIT_OK, command
from ._console import as_json, print_text, say
from ._text import one_line, printable
from .errors import LeadFastError


def add_commands(commands):
    """Add the command and its arguments to the parser."""
    extract = command(commands, "extract", _extract, "run models over images, keep their features")
    extract.add_argument(
        "--data", required=True, metavar="DIR",
        help="images in one directory per class, or what Hugging Face's save_to_disk wrote",
    )  # fmt: skip
    extract.add_argument(
        "--models", required=True, nargs="+", metavar="SPEC",
        help="timm:NAME, torchvision:NAME (both also with ,weights=FILE), hf:NAME-or-path; "
        "MODEL=SPEC gives it a name (the last part of SPEC, more where two would have one)",
    )  # fmt: skip
    extract.add_argument(
        "--out", required=True, metavar="ZOO", help="directory for MODEL.safetensors"
    )
    extract.add_argument(
        "--layers", metavar="NAME[,NAME...]", help="layers, each a row of the zoo (pooled output)"
    )
    extract.add_argument(
        "--join", action="store_true",
        help="one row per model: these layers, or hidden ones found by themselves, side by side",
    )  # fmt: skip
    extract.add_argument(
        "--logits", action="store_true", help="keep the classifier's output, for leep and nce"
    )
    extract.add_argument("--device", help="as torch calls it (a GPU if there is one)")
    extract.add_argument("--precision", default="float32", help="float32, float16 or bfloat16")
    extract.add_argument("--dtype", default="float16", help="of the features: float16 or float32")
    extract.add_argument(
        "--batch-size", type=int, default=64, help="halved where memory does not suffice (64)"
    )
    extract.add_argument("--workers", type=int, default=2, help="processes that decode (2)")


def _extract(arguments):
    from .extract.names import names_of
    from .extract.run import extract_model
    from .extract.setting import Setting

    names = dict(zip(arguments.models, names_of(arguments.models), strict=True))
    # Before any model is loaded or fetched: what is wrong for one would be so for all.
    setting = Setting.checked(
        arguments.data, arguments.out, arguments.device, arguments.precision, arguments.dtype,
        arguments.batch_size, arguments.workers,
    )  # fmt: skip
    layers = [one.strip() for one in arguments.layers.split(",")] if arguments.layers else None
    results = []
    for spec in _models(arguments.models):
        entry = {"model": spec, "state": "failed", "error": None, "files": []}
        results.append(entry)
        try:
            found = extract_model(
                spec, setting, names[spec], layers, arguments.join, arguments.logits
            )
        except LeadFastError as error:
            entry["error"] = one_line(error).removeprefix(f"{one_line(spec)}: ")
            say("error", f"{printable(spec)}: {entry['error']}")
            continue
        entry["state"] = "kept" if found.skipped else "written"
        entry["files"] = [str(path) for path in found.paths]
        entry["images_per_second"] = found.images_per_second or None
        if not arguments.json:
            print_text("\n".join(_lines(found)))
    if arguments.json:
        print_text(as_json({"models": results}))
    failed = any(entry["state"] == "failed" for entry in results)
    return EXIT_FAILED if failed else EXIT_OK


def _lines(found):
    if found.skipped:
        return [f"{printable(path.stem)}  kept, as nothing has changed" for path in found.paths]
    return [
        f"{printable(path.stem)}  {x.shape[0]} x {x.shape[1]}  "
        f"{found.images_per_second:.1f} images/s"
        for path, x in zip(found.paths, found.features.values(), strict=True)
    ]


def _models(specs):
    if sys.stderr is None or not sys.stderr.isatty():
        return specs
    from tqdm import tqdm

    return tqdm(specs, unit="model", file=sys.stderr, leave=False)
