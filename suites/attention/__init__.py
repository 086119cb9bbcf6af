"""Attention backends: each file defines `attention(q, k, v, *, causal, mask=None, bias=None)`.

q is (batch, heads, Lq, dim), k and v are (batch, key heads, Lk, dim); the result has the shape of q. Where there are
fewer key heads than heads, heads is a multiple of their number, and query head h reads key head
h // (heads / key heads) (grouped-query attention, Ainslie et al. 2023). `mask` is bool, of four dimensions,
broadcastable to (batch, heads, Lq, Lk), True where a query may attend; with `causal`, for which Lq equals Lk, query i
attends to keys 0..i only; both may be given. Every query must be left at least one key (padding stands at the end).
Scores are scaled by 1 / sqrt(dim); then `bias` is added, a float tensor shaped like a mask, which may ask for a
gradient. A model that has no bias does not pass one. What a backend cannot do it refuses with an exception; none falls
back to another.
"""
