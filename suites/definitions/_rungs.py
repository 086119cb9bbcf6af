"""The rungs from PyTorch 1.x style to 2.x: each adds one thing to the one before."""

from dataclasses import replace

from harness.spec import Variant

V1 = Variant(name="v1", attention="formula", compile="none", precision="fp32", optimizer="loop")
SDPA = replace(V1, name="+sdpa", attention="sdpa")
COMPILE = replace(SDPA, name="+compile", compile="default")
FUSED = replace(COMPILE, name="+fused", optimizer="fused")
BF16 = replace(FUSED, name="+bf16", precision="bf16")
