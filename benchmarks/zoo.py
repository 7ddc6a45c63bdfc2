"""Graphs of published models, from BERT to 1.6 trillion parameters, without their weights.

    python benchmarks/zoo.py --list
    python benchmarks/zoo.py --model gpt3-175b --out DIR
    infopt plan -c DIR/gpt3-175b.yaml --dry-run

Each model is written as NAME.onnx, whose external data is in no file, with NAME.yaml beside it: the
constraints file of its workload (generation: one prefill, 128 decoding steps). `--model all` writes
the whole zoo, `--dtype float16` declares weights and activations in another type.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.zoo_families.builder import DTYPES, save
from benchmarks.zoo_families.catalogue import MODELS, constraints_text


def main() -> None:
    """Lists or writes models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="names and published sizes")
    parser.add_argument("--model", default="", help="names separated by commas, or `all`")
    parser.add_argument("--out", type=Path, default=Path(), help="folder to write into")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name:24}{model.published:>22,.0f}" for name, model in MODELS.items()))
        return
    names = list(MODELS) if arguments.model == "all" else arguments.model.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        parser.error(f"no model is called {unknown[0]!r}; --list names them")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        write(name, arguments.dtype, arguments.out)


def write(name: str, dtype: str, folder: Path) -> Path:
    """Writes one model and its constraints file; the model's path."""
    path = folder / f"{name}.onnx"
    save(MODELS[name].build(name, dtype), path)
    path.with_name(f"{name}.yaml").write_text(constraints_text(name), encoding="utf-8")
    print(path)
    return path


if __name__ == "__main__":
    main()
