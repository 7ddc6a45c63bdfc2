"""What a launch, a node of a graph and a dependent launch cost."""

from __future__ import annotations

import itertools

from constants.device import Gpu, u32
from constants.report import Json, Report, Run


def chain_of_tiny(gpu: Gpu, kernel: str, grid: int, threads: int, pdl: bool = False) -> Json:
    """Graph of dependent tiny kernels; the count they keep proves that each ran, in order."""
    words = grid * threads
    buffers = [gpu.zeros(words), gpu.zeros(words)]
    added = 0

    def build(n: int) -> Run:
        def body() -> None:
            for i in range(n):
                source, target = buffers[i % 2], buffers[(i + 1) % 2]
                gpu.launch(kernel, grid, threads, source, target, u32(words), pdl=pdl and i > 0)

        graph = gpu.graph(body)

        def run() -> None:
            nonlocal added
            added += n
            graph()

        return run

    result = gpu.slope(build, (2, 10, 50, 200))
    wrong = int((buffers[0] != added).sum().item())
    names = {"kernel": kernel, "grid": grid, "threads": threads, "pdl": pdl}
    return {**names, "wrong_words": wrong, **result}


def chain_of_empty(gpu: Gpu, grid: int, threads: int) -> Json:
    def build(n: int) -> Run:
        def body() -> None:
            for _ in range(n):
                gpu.launch("empty_node", grid, threads)

        return gpu.graph(body)

    names = {"kernel": "empty_node", "grid": grid, "threads": threads}
    return {**names, **gpu.slope(build, (1, 10, 50, 200))}


def chain_in_stream(gpu: Gpu) -> Json:
    words = gpu.sms * 128
    a, b = gpu.zeros(words), gpu.zeros(words)

    def build(n: int) -> Run:
        def run() -> None:
            for _ in range(n):
                gpu.launch("tiny_node", gpu.sms, 128, a, b, u32(words))

        return run

    return gpu.slope(build, (10, 50, 200), repeats=10, spin_us=5000)


def chain_of_adds(gpu: Gpu, rows: int, columns: int) -> Json:
    x = gpu.torch.randn(rows, columns, device="cuda", dtype=gpu.torch.float16)
    y = gpu.torch.randn_like(x)

    def build(n: int) -> Run:
        return gpu.torch_replay(lambda: [x.add_(y, alpha=1e-3) for _ in range(n)])

    return {"rows": rows, "columns": columns, **gpu.slope(build, (10, 50, 200))}


def chain_of_forks(gpu: Gpu, width: int) -> Json:
    """Levels of `width` parallel adds, each level joined before the next."""
    torch, main = gpu.torch, gpu.torch_stream
    data = torch.randn(width, 16, 256, device="cuda", dtype=torch.float16)
    sides = [torch.cuda.Stream() for _ in range(width - 1)]

    def level() -> None:
        for side, x in zip(sides, data[1:], strict=True):
            side.wait_stream(main)
            with torch.cuda.stream(side):
                x.mul_(-1)
        data[0].mul_(-1)
        for side in sides:
            main.wait_stream(side)

    def build(n: int) -> Run:
        def body() -> None:
            for _ in range(n):
                level()

        return gpu.torch_replay(body)

    return {"width": width, **gpu.slope(build, (5, 25, 50))}


def nodes(gpu: Gpu, report: Report) -> None:
    """Device microseconds per kernel of a dependent chain: in a graph (empty and tiny kernels,
    torch's add) and launched one by one on a stream that already has the work queued; and per level
    of parallel kernels that fork and join."""
    for grid, threads in ((1, 128), (gpu.sms, 128), (gpu.sms, 512), (2 * gpu.sms, 256)):
        with report.part(f"tiny {grid}x{threads}"):
            report.row("graph", **chain_of_tiny(gpu, "tiny_node", grid, threads))
        with report.part(f"empty {grid}x{threads}"):
            report.row("graph", **chain_of_empty(gpu, grid, threads))
    with report.part("stream"):
        report.put("stream_tiny", chain_in_stream(gpu))
    for rows, columns in ((1, 256), (16, 256), (64, 1024)):
        with report.part(f"torch add {rows}x{columns}"):
            report.row("torch_add", **chain_of_adds(gpu, rows, columns))
    for width in (1, 2, 4, 8):
        with report.part(f"fork {width}"):
            report.row("fork_and_join", **chain_of_forks(gpu, width))


def pdl(gpu: Gpu, report: Report) -> None:
    """Device microseconds per kernel of a graph whose edges are programmatic dependent launches,
    against normal edges; the kernel lets its dependants start at its own start, at its end, or only
    by exiting."""
    kinds = (
        ("tiny_node", False),
        ("tiny_pdl_implicit", True),
        ("tiny_pdl_start", True),
        ("tiny_pdl_end", True),
    )
    sizes = ((1, 128), (gpu.sms, 128), (gpu.sms, 256), (2 * gpu.sms, 256))
    for (grid, threads), (kernel, edge) in itertools.product(sizes, kinds):
        with report.part(f"{kernel} {grid}x{threads}"):
            report.row("graph", **chain_of_tiny(gpu, kernel, grid, threads, pdl=edge))
