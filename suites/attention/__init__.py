"""Attention backends: each file defines `attention(q, k, v, *, causal, mask=None)`.

q is (batch, heads, Lq, dim), k and v are (batch, heads, Lk, dim); the result has the shape of q. `mask` is bool,
broadcastable to (batch, heads, Lq, Lk), True where a query may attend; with `causal`, for which Lq equals Lk, query i
attends to keys 0..i only; both may be given. Every query must be left at least one key (padding stands at the end).
Scores are scaled by 1 / sqrt(dim). What a backend cannot do it refuses with an exception; none falls back to another.
"""
