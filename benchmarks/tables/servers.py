"""What tables of machines and of serving engines say in columns of their own: how many machines,
clients, arrivals, two lengths at once, and what llama.cpp tests (`pp512`, `tg128`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CLIENTS = re.compile(r"concurren|(?:^|_)(?:conc|users|clients)$|^max_num_seqs$")
"""Headings of how many requests a server answers at once."""
_BATCH = re.compile(r"(?:global_)?batch|bsz?$")
"""Headings of how many inputs a request holds, or an engine takes at once."""
_ARRIVALS = re.compile(r"(?:target_)?(?:request|req|arrival)_rate|num_(?:prompts|requests)$")
"""Headings of requests that come however many are being answered."""
_OF_A_RUN = re.compile(
    r"(?:bench\w*_|total_|elapsed_)?(?:duration|elapsed|time)(?![a-z])|run_?time|total_latency"
)
_BEFORE = re.compile(r"(?:\w+_)?(?:build|load(?:ing)?|start-?up|warm_?up|compil\w+|init\w*)_time")
"""Headings of what happens once, before anything runs."""
_LIMIT = re.compile(r"(?<![a-z])(?:slo|sla|target|limit|timeout)(?![a-z])")
_LENGTHS = re.compile(
    r"\(?(?:isl|in(?:put)?)(?:_\w+?)?_?[/,:x\u00d7+|]_?(?:osl|out(?:put)?)(?:_\w+)?\)?"
    r"|(?:isl|input)_(?:osl|output)(?:_\w+)?"
)
"""Headings of two lengths in one column: `ISL/OSL`, `Input, Output`."""
_TWO = re.compile(r"\(?(\d+)(k?)\s*[/,:x\u00d7+ |]\s*(\d+)(k?)\)?", re.IGNORECASE)
_COUNT = re.compile(
    r"(\d+)\s*(?:x|nodes?|machines?|hosts?|servers?|gpus?)?(?:\s*(?:/|per)\s*node)?"
)
OF_LLAMA_BENCH = "avg_ts"
"""Tokens per second, as `llama-bench -o csv|json|jsonl` heads them."""
_KILO = 1024
"""Tokens of `1k`."""


def spread_over_nodes(found: dict[str, str], record: Mapping[str, str]) -> None:
    """How many devices so many machines have, and how many of them each."""
    machines = record.get("num_nodes") or record.get("nodes", "")
    nodes, each = _counted(machines), _counted(record.get("gpus_per_node", ""))
    devices = _counted(found["n_gpus"])
    if nodes and each and not devices:
        found["n_gpus"] = str(nodes * each)
    elif nodes > 1 and devices and not each and devices % nodes == 0:
        found["params"] += f" devices_per_node={devices // nodes}"


def serve(found: dict[str, str], record: Mapping[str, str]) -> None:
    """Clients and arrivals as notes, two lengths and tests as lengths."""
    if any(_CLIENTS.search(name) and cell for name, cell in record.items()):
        is_batched = any(_BATCH.match(name) and cell for name, cell in record.items())
        found["notes"] += " concurrency" if is_batched else " concurrency as batch"
    if not found["batch"] and any(_ARRIVALS.match(n) and cell for n, cell in record.items()):
        found["notes"] += " open loop"
    prompts = _counted(record.get("num_prompts", ""))
    if prompts and found["batch"].isdigit() and int(found["batch"]) > prompts:
        found["batch"] = str(prompts)
    two = next((cell for name, cell in record.items() if _LENGTHS.fullmatch(name)), "")
    pair = _TWO.fullmatch(two.strip())
    if pair and not found["seq_in"] and not found["seq_out"]:
        found["seq_in"], found["seq_out"] = _tokens(pair[1], pair[2]), _tokens(pair[3], pair[4])
    requests = _counted(record.get("completed", ""))
    for side, column in (("input", "seq_in"), ("output", "seq_out")):
        tokens = _counted(record.get(f"total_{side}_tokens", ""))
        if requests and tokens and not found[column]:
            found[column] = str(max(1, round(tokens / requests)))
    if "n_prompt" in record and "n_gen" in record:
        found["seq_in"], found["seq_out"] = (_some(record[each]) for each in ("n_prompt", "n_gen"))
    tested = re.fullmatch(r"(pp|tg)\s?(\d+)", record.get("test", ""))
    if tested:
        found["seq_in" if tested[1] == "pp" else "seq_out"] = tested[2]


def beside(metric: str, record: Mapping[str, str]) -> str:
    """A metric with what columns beside it say of it: the phase that llama.cpp's `test` names; all
    tokens, where those that were written stand apart; and phases, where both have a rate besides
    that of the whole (SGLang's bench_one_batch_server)."""
    tested = re.fullmatch(r"(pp|tg)\s?\d+", record.get("test", ""))
    if tested:
        return f"{_PHASES[tested[1]]}_{metric}"
    if metric == OF_LLAMA_BENCH:
        sides = (("pp", "n_prompt"), ("tg", "n_gen"))
        phases = [_PHASES[short] for short, name in sides if _some(record.get(name, ""))]
        return f"{phases[0]}_tokens/s" if len(phases) == 1 else metric
    if f"output_{metric}" in record and re.match(r"throughput|tput", metric):
        return f"total_{metric}"
    if any(name.startswith("overall_throughput") for name in record):
        return re.sub(r"^(input|output)(?=_throughput)", lambda side: _PHASES[side[1]], metric)
    return metric


_PHASES = {"pp": "prefill", "tg": "decode", "input": "prefill", "output": "decode"}


def is_of_a_run(metric: str, record: Mapping[str, str]) -> bool:
    """Whether a column is no request's: how long a server was asked, how often, what it should
    keep."""
    if _ARRIVALS.match(metric) or _LIMIT.search(metric):
        return True
    if _BEFORE.match(metric) or (OF_LLAMA_BENCH in record and metric != OF_LLAMA_BENCH):
        return True
    return _OF_A_RUN.match(metric) is not None and any(_ARRIVALS.match(name) for name in record)


def _some(cell: str) -> str:
    """A count, or nothing where it is 0."""
    return "" if cell.strip() == "0" else cell


def _tokens(size: str, kilo: str) -> str:
    return str(int(size) * (_KILO if kilo else 1))


def _counted(cell: str) -> int:
    """Of `2`, `2x` and `2 nodes`; 0: of what counts nothing."""
    marked = _COUNT.fullmatch(cell.strip().lower())
    return int(marked[1]) if marked else 0
