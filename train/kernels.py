# mypy: disable-error-code="no-untyped-def"
"""Triton kernels for what is not a matrix product: each reads its inputs once and writes once.

A transformer's norms, rotary embedding, gated activation and softmax are bound by memory
bandwidth, so what counts is how often their tensors pass through it. Plain torch passes them
three to ten times. All arithmetic is fp32, whatever the tensors' dtype. Needs a GPU; imported
only where one is used. Tensors are contiguous unless said otherwise.
"""

from typing import Any

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from train.objective import IGNORED


def _block(width: int) -> tuple[int, int]:
    """Elements of a row that one program holds, and its warps."""
    block = triton.next_power_of_2(width)
    return block, min(16, max(4, block // 512))


@triton.jit
def _norm_forward(
    x, added, weight, total, out, inverse, width, epsilon, ADDS: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(x + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        values += tl.load(added + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        # What is normalized is the sum as it is stored, so that backward sees the same numbers.
        stored = values.to(total.dtype.element_ty)
        tl.store(total + row * width + columns, stored, mask=inside)
        values = stored.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / width + epsilon)
    tl.store(inverse + row, scale)
    gain = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, values * scale * gain, mask=inside)


@triton.jit
def _norm_backward(
    grad_out, grad_total, total, weight, inverse, grad_x, grad_weight, rows, width,
    ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    gain = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        place = row * width + columns
        scale = tl.load(inverse + row)
        normal = tl.load(total + place, mask=inside, other=0.0).to(tl.float32) * scale
        upper = tl.load(grad_out + place, mask=inside, other=0.0).to(tl.float32)
        sums += upper * normal
        upper *= gain
        lower = scale * (upper - normal * (tl.sum(upper * normal, 0) / width))
        if ADDS:
            lower += tl.load(grad_total + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad_x + place, lower, mask=inside)
    tl.store(grad_weight + program * width + columns, sums, mask=inside)


class AddNorm(torch.autograd.Function):
    """(x, added) -> (x + added, rms_norm(x + added) * weight); without `added`, of x alone."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: torch.Tensor,
        added: torch.Tensor | None,
        weight: torch.Tensor,
        epsilon: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x, added: [..., width]; weight: [width]. Returns (sum, normalized), of x's dtype."""
        width = x.shape[-1]
        rows = x.numel() // width
        x = x.contiguous()
        adds = added is not None
        total = torch.empty_like(x) if adds else x
        out = torch.empty_like(x)
        inverse = torch.empty(rows, dtype=torch.float32, device=x.device)
        block, warps = _block(width)
        other = added.contiguous() if added is not None else x
        _norm_forward[(rows,)](
            x, other, weight, total, out, inverse, width, epsilon,
            ADDS=adds, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        ctx.save_for_backward(total, weight, inverse)
        ctx.adds = adds
        ctx.set_materialize_grads(False)
        return total, out

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_total: torch.Tensor | None, grad_out: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        """One gradient serves both summands."""
        total, weight, inverse = ctx.saved_tensors
        if grad_out is None:
            return grad_total, grad_total if ctx.adds else None, None, None
        width = total.shape[-1]
        rows = total.numel() // width
        programs = min(rows, 8 * _multiprocessors(total.device.index))
        grad_x = torch.empty_like(total)
        partial = torch.empty(programs, width, dtype=torch.float32, device=total.device)
        block, warps = _block(width)
        _norm_backward[(programs,)](
            grad_out.contiguous(),
            grad_total.contiguous() if grad_total is not None else grad_out,
            total, weight, inverse, grad_x, partial, rows, width,
            ADDS=grad_total is not None, BLOCK=block, num_warps=warps,
        )  # fmt: skip
        return grad_x, grad_x if ctx.adds else None, partial.sum(0).to(weight.dtype), None


def _multiprocessors(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


@triton.jit
def _gate_forward(gate, up, out, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, g * tl.sigmoid(g) * u, mask=inside)


@triton.jit
def _gate_backward(grad, gate, up, grad_gate, grad_up, out, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    d = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(g)
    tl.store(grad_up + place, d * g * s, mask=inside)
    tl.store(grad_gate + place, d * u * s * (1 + g * (1 - s)), mask=inside)


class SwiGlu(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """gate, up: same shape and dtype."""
        out = torch.empty_like(gate)
        size = gate.numel()
        _gate_forward[(triton.cdiv(size, 4096),)](gate, up, out, size, BLOCK=4096, num_warps=8)
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """The gradients of gate and up, in one pass over three tensors."""
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        size = gate.numel()
        _gate_backward[(triton.cdiv(size, 4096),)](
            grad.contiguous(), gate, up, grad_gate, grad_up, gate, size, BLOCK=4096, num_warps=8
        )
        return grad_gate, grad_up


@triton.jit
def _rotate(
    x, out, cosine, sine, heads, SIGN: tl.constexpr, HALF: tl.constexpr, GROUP: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * GROUP + tl.arange(0, GROUP)[:, None]
    pair = tl.arange(0, HALF)[None, :]
    c = tl.load(cosine + token * HALF + pair)
    s = tl.load(sine + token * HALF + pair) * SIGN
    place = token * heads * 2 * HALF + head * 2 * HALF + pair
    inside = head < heads
    first = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + place + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, first * c - second * s, mask=inside)
    tl.store(out + place + HALF, second * c + first * s, mask=inside)


def _rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, sign: int) -> torch.Tensor:
    tokens, heads, width = x.shape
    out = torch.empty_like(x)
    group = min(16, triton.next_power_of_2(heads))
    _rotate[(tokens, triton.cdiv(heads, group))](
        x, out, cosine, sine, heads, SIGN=sign, HALF=width // 2, GROUP=group, num_warps=4
    )
    return out


class Rotary(torch.autograd.Function):
    """Rotary position embedding (Su et al. 2021), pairs (i, i + width/2) as in Llama."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
    ) -> torch.Tensor:
        """x: [T, heads, width], width a power of two; cosine, sine: fp32 [T, width / 2]."""
        ctx.save_for_backward(cosine, sine)
        return _rotated(x.contiguous(), cosine, sine, 1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        """The inverse rotation."""
        cosine, sine = ctx.saved_tensors
        return _rotated(grad.contiguous(), cosine, sine, -1), None, None


@triton.jit
def _softmax_loss(logits, labels, losses, scale, width, IGNORE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    start = logits + row * width
    if label == IGNORE:
        for begin in range(0, width, BLOCK):
            columns = begin + tl.arange(0, BLOCK)
            tl.store(start + columns, 0.0, mask=columns < width)
        tl.store(losses + row, 0.0)
    else:
        largest = -float("inf")
        total = 0.0
        for begin in range(0, width, BLOCK):
            columns = begin + tl.arange(0, BLOCK)
            values = tl.load(start + columns, mask=columns < width, other=-float("inf"))
            values = values.to(tl.float32)
            higher = tl.maximum(largest, tl.max(values, 0))
            total = total * tl.exp(largest - higher) + tl.sum(tl.exp(values - higher), 0)
            largest = higher
        normalizer = largest + tl.log(total)
        tl.store(losses + row, normalizer - tl.load(start + label).to(tl.float32))
        factor = tl.load(scale)
        tl.debug_barrier()
        for begin in range(0, width, BLOCK):
            columns = begin + tl.arange(0, BLOCK)
            inside = columns < width
            values = tl.load(start + columns, mask=inside, other=-float("inf")).to(tl.float32)
            gradient = tl.exp(values - normalizer) - tl.where(columns == label, 1.0, 0.0)
            tl.store(start + columns, gradient * factor, mask=inside)


def cross_entropy_(
    logits: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor, scale: torch.Tensor
) -> None:
    """Write each row's loss, and its gradient times `scale` over the logits.

    Args:
        logits: [n, V]; becomes the gradient.
        labels: int64 [n]; `IGNORED` gives loss and gradient 0.
        losses: fp32 [n], written.
        scale: fp32 scalar tensor.
    """
    rows, width = logits.shape
    _softmax_loss[(rows,)](
        logits, labels, losses, scale, width, IGNORE=IGNORED, BLOCK=8192, num_warps=16
    )
