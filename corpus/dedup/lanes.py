"""The innermost loop of MinHash in vector registers, sixteen permutations an instruction.

Compilers turn the plain loop (`kernels._lower_minima`) into 256-bit instructions with a reduction
at its end. Here permutations lie in the lanes and their minima stay in registers while the hashes
pass by, in vectors as wide as the processor's, which is a third faster. LLVM splits the vectors
where registers are narrower, so the same code runs on every processor.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

LANES = 16  # a 512-bit register of uint32; two of AVX2's; four of NEON's
VECTORS = 2  # at a time: their multipliers, addends and minima fill AVX2's registers
STEP = LANES * VECTORS

_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, LANES)


@intrinsic  # type: ignore[untyped-decorator]
def lower_minima_step(typingctx, hashes, count, a, b, minima, first):  # type: ignore[no-untyped-def]
    """Lower minima[first:first + STEP] to min(a * h + b mod 2^32) over hashes[:count].

    All arrays are contiguous and uint32; nothing checks that they are long enough.
    """
    arrays = (hashes, a, b, minima)
    if not all(array.layout == "C" and array.dtype == types.uint32 for array in arrays):
        raise TypeError("lower_minima_step takes contiguous arrays of uint32")
    signature = types.void(hashes, types.intp, a, b, minima, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def start_of(n: int) -> Any:
            return context.make_array(signature.args[n])(context, builder, arguments[n]).data

        end, first = arguments[1], arguments[5]
        word = first.type

        def vector_at(base: Any, vector: int) -> Any:
            offset = builder.add(first, ir.Constant(word, vector * LANES))
            return builder.bitcast(builder.gep(base, [offset]), _VECTOR.as_pointer())

        def load(base: Any, vector: int) -> Any:
            loaded = builder.load(vector_at(base, vector))
            loaded.align = 4
            return loaded

        starts = {name: start_of(n) for name, n in (("h", 0), ("a", 2), ("b", 3), ("minima", 4))}
        multipliers = [load(starts["a"], v) for v in range(VECTORS)]
        addends = [load(starts["b"], v) for v in range(VECTORS)]
        before = [load(starts["minima"], v) for v in range(VECTORS)]
        entry = builder.block
        condition, body, done = (
            builder.append_basic_block(name) for name in ("hashes", "lower", "lowered")
        )
        builder.branch(condition)

        builder.position_at_end(condition)
        place = builder.phi(word)
        place.add_incoming(ir.Constant(word, 0), entry)
        lowest = [builder.phi(_VECTOR) for _ in range(VECTORS)]
        for v in range(VECTORS):
            lowest[v].add_incoming(before[v], entry)
        builder.cbranch(builder.icmp_signed("<", place, end), body, done)

        builder.position_at_end(body)
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        h = builder.load(builder.gep(starts["h"], [place]))
        lane = builder.insert_element(nothing, h, ir.Constant(_I32, 0))
        every = builder.shuffle_vector(lane, nothing, ir.Constant(_VECTOR, [0] * LANES))
        for v in range(VECTORS):
            value = builder.add(builder.mul(multipliers[v], every), addends[v])
            lower = builder.icmp_unsigned("<", value, lowest[v])
            lowest[v].add_incoming(builder.select(lower, value, lowest[v]), body)
        place.add_incoming(builder.add(place, ir.Constant(word, 1)), body)
        builder.branch(condition)

        builder.position_at_end(done)
        for v in range(VECTORS):
            builder.store(lowest[v], vector_at(starts["minima"], v)).align = 4
        return context.get_dummy_value()

    return signature, generate
