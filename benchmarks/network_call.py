"""One network call at 32 px, batch 32, equal parameters, without gradients."""

import contest
import nets
from contest import BATCH, PX, Row

TITLE = "One network call"
ABOUT = (
    f"A batch of {BATCH} pictures of {PX} px through networks of equal parameters (within 10 %), without gradients. The ratio is how many "
    "times as fast ours is in bf16, "
    "channels last; the peers run as they come, in fp32, and by bf16 autocast."
)


def measure(*, runs: int, quick: bool) -> list[Row]:
    """A row for each network and precision."""
    batch, px = (2, 16) if quick else (BATCH, PX)
    x, t = nets.batch(batch, px)
    return contest.rows(lambda net, bf16: nets.call(net, x, t, bf16=bf16), runs=runs, quick=quick, batch=batch, goals={})
