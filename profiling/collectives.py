"""Collective operations among the GPUs of this machine, or among processes on its CPU.

Each rank is a process. The processes stay for the next cases that have as many ranks.
"""

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from fastsim.files.children import without_interrupts

from .timing import Times, calls_of, settle

WAIT_S = 120.0  # to wait at most for all processes to start, and for each answer


class Ask(NamedTuple):
    """What every process is to do next: ``calls`` of one collective, captured in one CUDA graph if ``graph``."""

    family: str
    elements: int
    calls: int
    graph: bool


class Group:
    """``ranks`` processes; each has its own CUDA device (nccl) or one CPU thread (gloo)."""

    def __init__(self, backend: str, ranks: int) -> None:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self.processes = []
        for rank in range(ranks):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, backend, rank, ranks, port), daemon=True)
            with without_interrupts():
                process.start()
            theirs.close()
            self._pipes.append(mine)
            self.processes.append(process)
        self._answers()

    def times(self, family: str, elements: int, graph: bool, seconds: float) -> Times:
        """Time one collective of ``elements`` bf16 values, ms; in each burst the slowest rank counts."""
        graphed = False

        def burst(calls: int, graph: bool) -> float:
            nonlocal graphed
            answers = self._ask(Ask(family, elements, calls, graph))
            graphed = all(was for _, was in answers)
            return max(ms for ms, _ in answers)

        burst(3, False)
        calls = calls_of(burst(3, False), seconds, 1, 200)
        burst(calls, graph)
        ms = settle(lambda: burst(calls, graph), seconds)
        return Times(ms, graphed)

    def _ask(self, ask: Ask) -> list[tuple[float, bool]]:
        for pipe in self._pipes:
            with suppress(OSError):  # the process has ended, which ``_answers`` will find out
                pipe.send(ask)
        return self._answers()

    def _answers(self) -> list[tuple[float, bool]]:
        """Wait for an answer from every process. As soon as one fails, end all of them and raise RuntimeError."""
        answers: dict[Any, Any] = {}
        wrong = ""
        while len(answers) < len(self._pipes) and not wrong:
            ready = wait([pipe for pipe in self._pipes if pipe not in answers], WAIT_S)
            wrong = "" if ready else f"no answer for {WAIT_S:.0f} s"
            for pipe in [pipe for pipe in self._pipes if pipe in ready]:
                try:
                    answers[pipe] = pipe.recv()
                except (EOFError, OSError):
                    answers[pipe] = "a process of the group has ended"
                wrong = answers[pipe] if isinstance(answers[pipe], str) else wrong
        if wrong:
            self.close()
            raise RuntimeError(wrong)
        return list(answers.values())

    def close(self) -> None:
        """Kill the processes; the next case starts new ones."""
        _KEPT.clear()
        for process in self.processes:
            process.kill()
            process.join()


_KEPT: dict[tuple[str, int], Group] = {}  # at most one


def group(backend: str, ranks: int) -> Group:
    """Return the group of ``ranks`` processes: that of the last case if it has as many, else a new one."""
    if (backend, ranks) not in _KEPT:
        for other in list(_KEPT.values()):
            other.close()
        _KEPT[backend, ranks] = Group(backend, ranks)
    return _KEPT[backend, ranks]


def few(ranks: int, device: str) -> str:
    """Return why this machine has no group of ``ranks``; empty if it can have one."""
    import torch

    if ranks < 2:
        return f"a collective takes two ranks or more, not {ranks}"
    if device.startswith("cuda") and ranks > torch.cuda.device_count():
        return f"{ranks} ranks need as many GPUs, and this machine has {torch.cuda.device_count()}"
    return ""


def _serve(pipe: Connection, backend: str, rank: int, ranks: int, port: int) -> None:
    """The loop of one process: run each burst that the parent asks for, until the parent closes the pipe."""
    import os
    import signal
    import warnings

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    warnings.simplefilter("ignore", FutureWarning)  # about names that later versions of PyTorch change
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    try:
        if backend == "nccl":
            torch.cuda.set_device(rank)
        else:
            torch.set_num_threads(1)
        torch.distributed.init_process_group(backend, f"tcp://127.0.0.1:{port}", world_size=ranks, rank=rank)
        pipe.send((0.0, False))
        kept: dict[Ask, Any] = {}
        while True:
            ask = pipe.recv()
            if ask not in kept:
                kept = {ask: _Exchange(ask, device, rank, ranks)}
            pipe.send(kept[ask].burst())
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has ended
        os._exit(0)  # a regular exit would wait for the other ranks, which may wait for this one
    except Exception as problem:
        pipe.send(f"rank {rank}: {str(problem).strip().splitlines()[0] if str(problem) else type(problem).__name__}")


class _Exchange:
    """One collective in one process, with its buffers and perhaps a CUDA graph."""

    def __init__(self, ask: Ask, device: str, rank: int, ranks: int) -> None:
        import torch

        self.ask, self.device, self.rank, self.ranks = ask, device, rank, ranks
        share = max(1, ask.elements // ranks)
        whole = ask.elements if ask.family in ("all_reduce", "send_recv") else share * ranks
        self.whole = torch.zeros(max(whole, 1), dtype=torch.bfloat16, device=device)
        self.share = torch.zeros(share, dtype=torch.bfloat16, device=device)
        self.other = torch.zeros_like(self.whole) if ask.family == "all_to_all" else self.share
        self.graph: Any = None
        if ask.graph and device != "cpu":
            self.graph = self._captured()

    def call(self) -> None:
        """Run the collective once."""
        from torch import distributed

        match self.ask.family:
            case "all_reduce":
                distributed.all_reduce(self.whole)
            case "all_gather":
                distributed.all_gather_into_tensor(self.whole, self.share)
            case "reduce_scatter":
                distributed.reduce_scatter_tensor(self.share, self.whole)
            case "all_to_all":
                distributed.all_to_all_single(self.other, self.whole)
            case _:
                if self.rank == 0:
                    distributed.send(self.whole, self.ranks - 1)
                elif self.rank == self.ranks - 1:
                    distributed.recv(self.whole, 0)

    def burst(self) -> tuple[float, bool]:
        """Run one burst; return the time of one call, ms, and whether a CUDA graph was replayed."""
        import time

        import torch

        if self.device == "cpu":
            torch.distributed.barrier()
            start = time.perf_counter()
            self._eager()
            return (time.perf_counter() - start) * 1e3 / self.ask.calls, False
        torch.distributed.barrier(device_ids=[self.rank])
        torch.cuda.synchronize()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        if self.graph:  # keeps the GPU busy while the host launches the burst that is timed
            self.graph.replay()
        first.record()
        self.graph.replay() if self.graph else self._eager()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / self.ask.calls, self.graph is not None

    def _eager(self) -> None:
        for _ in range(self.ask.calls):
            self.call()

    def _captured(self) -> Any:
        import torch

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.call()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._eager()
        return graph
