"""`torch.compile` beside the engine's own products: the two products of a GPT-2 block and the GELU between, one core.

    python -m tests.bench.compiled [--quick] [--json]

Inductor may choose its C++ products (`max_autotune`, weights frozen); it needs a compiler. The engine packs weights
ahead and calls oneDNN. Figures are GFLOP/s by the processor seconds of one thread, the best of several turns.
"""

from __future__ import annotations

import shutil
import time

import torch
import torch._inductor.config as inductor
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bench.measure import arguments, console, report
from tests.bench.products import WIDTH, best


class Products(nn.Module):
    """The two products of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(N, WIDTH) of x (N, WIDTH)."""
        found: Tensor = self.down(F.gelu(self.up(x), approximate="tanh"))
        return found


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__ or "")
    if shutil.which("g++") is None:
        raise SystemExit("torch.compile needs a C++ compiler: install g++")
    torch.set_num_threads(1)
    inductor.freezing = inductor.max_autotune = True
    inductor.max_autotune_gemm_backends = "CPP,ATEN"
    layer = Products().bfloat16().eval()
    figures: dict[str, dict[str, float]] = {}
    for rows in (48,) if options.quick else (48, 160, 1024):
        x = torch.randn(rows, WIDTH).bfloat16()
        up, down = (torch.ops.mkldnn._reorder_linear_weight(one.weight, rows) for one in (layer.up, layer.down))

        def packed(x: Tensor = x, up: Tensor = up, down: Tensor = down) -> Tensor:
            inner = torch.ops.mkldnn._linear_pointwise(x, up, layer.up.bias, "gelu", [], "tanh")
            found: Tensor = torch.ops.mkldnn._linear_pointwise(inner, down, layer.down.bias, "none", [], "")
            return found

        torch._dynamo.reset()
        compiled, started = torch.compile(layer, dynamic=False), time.monotonic()
        compiled(x)
        console.print(f"{rows} rows: compiled in {time.monotonic() - started:.0f} seconds", highlight=False)
        works = {
            "as written": lambda x=x: layer(x),
            "packed ahead": packed,
            "compiled": lambda x=x, run=compiled: run(x),
        }
        gflop = 4 * rows * WIDTH * 4 * WIDTH / 1e9
        figures[f"{rows} rows"] = {name: gflop / s for name, s in best(works, 3 if options.quick else 15).items()}
    cells = {name: {key: f"{value:.0f}" for key, value in of.items()} for name, of in figures.items()}
    report("Products of a block, GFLOP/s", cells, figures, options.json)


if __name__ == "__main__":
    main()
