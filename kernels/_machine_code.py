"""Machine code of a kernel that runs without Numba, whose import takes longer than most simulations.

The object code is what Numba made. Beside it lies an entry that takes one argument: the address of int64 words, first
one for the answer, then those of all arguments, in the order in which Numba passes them. A number has one word. An
array has two that stay 0, the number of its items, the size of one in bytes, its address, its shape and its strides.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from weakref import ref

import llvmlite
import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

ENTRY = "fastsim_entry"
# What Numba names otherwise than the C library does.
IN_C = {"numba_ldexp": "ldexp", "numba_nextafter": "nextafter"}
# How names begin that only Numba's own entries refer to, which are never called.
UNUSED = ("Py", "_Py", "numba_adapt_ndarray", "numba_do_raise", "numba_gil_", "numba_runtime_", "numba_unpickle")
_LENGTH = struct.Struct("<Q")  # of Numba's object code, which the entry's follows
_SYMBOL = np.dtype(  # of an ELF file of 64 bits
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)

# Finding the words of an array takes six times as long as looking them up, and a state has two hundred arrays.
_KNOWN = 8192  # arrays whose words are kept
_known: dict[int, tuple[Callable[[], Any], tuple[int, ...], str]] = {}  # a reference, words and type, by id

Run = Callable[[NDArray[np.int64]], int]


class NotKept(Exception):
    """Arguments or code that only Numba can call."""


def flatten(value: Any, words: list[int], types: list[str]) -> None:
    """Append the words of an argument, and what tells its type from others.

    An array must keep its shape, and whether it can be written. Raises NotKept for what is neither an array, a number,
    nor a tuple of those.
    """
    if isinstance(value, np.ndarray):
        known = _known.get(id(value))
        if known is None or known[0]() is not value:
            known = _described(value)
        words += known[1]
        types.append(known[2])
    elif isinstance(value, tuple):
        types.append(f"{type(value).__name__}({len(value)})")
        for each in value:
            flatten(each, words, types)
    elif isinstance(value, bool | np.bool_):
        words.append(int(value))
        types.append("bool")
    elif isinstance(value, float):
        words.append(struct.unpack("<q", struct.pack("<d", value))[0])
        types.append("float")
    elif isinstance(value, int | np.int64):
        words.append(int(value))
        types.append("int")
    else:
        raise NotKept(type(value).__name__)


def _described(array: NDArray[Any]) -> tuple[Callable[[], Any], tuple[int, ...], str]:
    """A reference to an array, its words and its type, which are kept for the next time."""
    flags, dtype = array.flags, array.dtype
    if not (flags.c_contiguous and flags.aligned and dtype.isnative and dtype.kind in "iufb"):
        raise NotKept(f"an array of {dtype}")
    words = 0, 0, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides
    if len(_known) >= _KNOWN:
        _known.clear()
    known = ref(array), words, f"{dtype.char}{array.ndim}{'' if flags.writeable else 'r'}"
    _known[id(array)] = known
    return known


@cache
def machine() -> tuple[str, ...]:
    """What else machine code depends on: the CPU, its features, LLVM, and what the environment tells Numba."""
    told = (f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith("NUMBA_"))
    cpu = llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return (*cpu, llvmlite.__version__, *told)


def code_of(compiled: Any, number: int) -> bytes:
    """What is kept of a function that Numba has compiled, and which takes ``number`` words.

    ``compiled``: Numba's compile result. Raises NotKept where the function cannot be called with words.
    """
    from llvmlite import ir

    context, described, library = compiled.target_context, compiled.fndesc, compiled.library
    passed = list(context.get_arg_packer(described.argtypes).argument_types)
    word, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
    if sys.platform != "linux" or context.get_value_type(described.restype) != word or len(passed) != number:
        raise NotKept(described.qualname)
    module = ir.Module(ENTRY)
    module.triple = llvm.get_process_triple()
    takes = [word.as_pointer(), pointer.as_pointer(), *passed]
    kernel = ir.Function(module, ir.FunctionType(ir.IntType(32), takes), described.llvm_func_name)
    entry = ir.Function(module, ir.FunctionType(ir.IntType(32), [word.as_pointer()]), ENTRY)
    build = ir.IRBuilder(entry.append_basic_block())
    (words,) = entry.args
    given = [
        _read(build, build.load(build.gep(words, [word(place)])), kind) for place, kind in enumerate(passed, start=1)
    ]
    build.ret(build.call(kernel, [words, build.alloca(pointer), *given]))
    code: bytes = library._get_compiled_object()
    content: bytes = library.codegen._tm.emit_object(llvm.parse_assembly(str(module)))
    return _LENGTH.pack(len(code)) + code + content


def _read(build: Any, word: Any, kind: Any) -> Any:
    """A word as a value of an LLVM type."""
    from llvmlite import ir

    match kind:
        case ir.PointerType():
            return build.inttoptr(word, kind)
        case ir.DoubleType():
            return build.bitcast(word, kind)
        case ir.IntType(width=64):
            return word
        case ir.IntType(width=1 | 8):
            return build.trunc(word, kind)
    raise NotKept(str(kind))


def run_of(code: bytes) -> Run:
    """The function whose code was kept: of a place for its answer and the words of its arguments, with its answer.

    Raises NotKept where the code refers to what this process does not have.
    """
    end = _LENGTH.size + _LENGTH.unpack_from(code)[0]
    kernel, entry_code = code[_LENGTH.size : end], code[end:]
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target().create_target_machine(jit=True))
    _provide(_names(kernel))
    for each in (kernel, entry_code):
        engine.add_object_file(llvm.ObjectFileRef.from_data(each))
    engine.finalize_object()
    entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(engine.get_function_address(ENTRY))

    def run(words: NDArray[np.int64]) -> int:
        if entry(words.ctypes.data):
            raise RuntimeError("a kernel raised an exception")
        return int(words[0])

    vars(run)["engine"] = engine  # which owns the code
    return run


@cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple())


def _names(code: bytes) -> list[str]:
    """What an object file refers to but does not hold."""
    sections = {section.name(): section.data() for section in llvm.ObjectFileRef.from_data(code).sections()}
    symbols, names = np.frombuffer(sections[b".symtab"], _SYMBOL), sections[b".strtab"]
    starts = symbols["name"][(symbols["section"] == 0) & (symbols["name"] > 0)].tolist()
    return [names[start : names.index(b"\0", start)].decode() for start in starts]


def _provide(names: Sequence[str]) -> None:
    """Give an address to what the code refers to. LLVM ends the process where it finds none.

    What this process has keeps its own address, as Numba may be imported later and needs it: LLVM looks into the
    process once there is an engine.
    """
    here = ctypes.CDLL(None)
    for name in names:
        if llvm.address_of_symbol(name) is None:
            known = "abort" if name.startswith(UNUSED) else IN_C.get(name, name)
            function = getattr(here, known, None)
            if function is None:
                raise NotKept(f"{name} is not in this process")
            llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
