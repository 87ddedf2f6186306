"""Arrow's string and binary columns as numpy arrays: what kernels and packed records work on."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def string_buffers(strings: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The offsets and bytes of a `string`, `large_string` or `binary` array, without copying bytes.

    Null entries get no bytes. Raises TypeError for other arrays.
    """
    if pa.types.is_large_string(strings.type) or pa.types.is_large_binary(strings.type):
        dtype: type = np.int64
    elif pa.types.is_string(strings.type) or pa.types.is_binary(strings.type):
        dtype = np.int32
    else:
        raise TypeError(f"a string array is needed, not {strings.type}")
    if len(strings) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, offset_buffer, data_buffer = strings.buffers()
    first = strings.offset
    offsets: NDArray[Any] = np.frombuffer(offset_buffer, dtype)[first : first + len(strings) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.zeros(0, np.uint8)
    if strings.null_count:
        lengths = np.where(strings.is_valid().to_numpy(zero_copy_only=False), np.diff(offsets), 0)
        if (lengths != np.diff(offsets)).any():  # Arrow allows bytes under a null; copy them away
            return string_buffers(strings.fill_null(""))
    return offsets.astype(np.int64), data


def blobs(values: NDArray[Any], starts: NDArray[np.int64]) -> pa.Array:
    """A binary array whose entries are values[starts[i]:starts[i + 1]], rows of `values`."""
    width = values.dtype.itemsize * (values.shape[1] if values.ndim > 1 else 1)
    offsets = (starts * width).astype(np.int32)
    data = np.ascontiguousarray(values)
    return pa.Array.from_buffers(
        pa.binary(), len(starts) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def unblob(column: pa.ChunkedArray, dtype: type) -> NDArray[Any]:
    """All entries of a binary column, joined, as numbers."""
    parts: list[NDArray[Any]] = []
    for chunk in column.chunks:
        offsets, data = string_buffers(chunk)
        parts.append(data[offsets[0] : offsets[-1]].view(dtype))
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
