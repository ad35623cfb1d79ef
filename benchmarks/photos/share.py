"""How much of a second stage to keep: PSNR on validation photographs of the mean of a run's weights and those of the run it began from.

    python benchmarks/photos/share.py runs/photo --tune DIR --out benchmarks/results/photos-share.json

``scripts/ship.py --share`` takes what was chosen. Test pictures play no part in it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from damages import DAMAGES, apply
from run import tuning_crops
from scores import score

import snowmelt
from snowmelt.recipes.report import environment

SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 1.0)


def main() -> None:
    """Restore every damaged validation crop at every share; print and write the mean PSNR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the run of the second stage")
    parser.add_argument("--init", type=Path, help="the run it began from; by default where its recipe says")
    parser.add_argument("--tune", type=Path, required=True, help="the folder of photographs it was trained on: its validation split is used")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file too")
    options = parser.parse_args()
    model = snowmelt.load(options.run)
    init = options.init or Path(model.notes["recipe"]["model"]["init"])
    before, after = (dict(snowmelt.load(path).restorer.state_dict()) for path in (init, options.run))
    crops = tuning_crops(options.tune, limit=12)
    damaged = {d.key: [(apply(d, x, i)[0], x) for i, x in enumerate(crops)] for d in DAMAGES}
    rows = {}
    for share in SHARES:
        model.restorer.load_state_dict({name: torch.lerp(before[name], after[name], share) for name in after})
        for key, pairs in damaged.items():
            restored = snowmelt.restore(model, torch.stack([y for y, _ in pairs]), sampler=None)
            found = [score(r, x, luma=False)["psnr"] for r, (_, x) in zip(restored, pairs, strict=True)]
            rows.setdefault(key, {})[str(share)] = round(float(np.mean(found)), 3)
        print(share, {key: row[str(share)] for key, row in rows.items()}, flush=True)
    if options.out:
        options.out.write_text(json.dumps({**environment(), "crops": len(crops), "psnr_db": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
