"""What is done to one spectrum's pixels, compiled: arrays in, arrays out, one spectrum after the other.

Arithmetic is that of IEEE 754 in the order in which it is written, no sum is reordered and no product fused, so that a
spectrum's bits depend neither on those beside it nor on the kind of CPU. Knows no tensor, no arm and no setting: what a
kernel goes by is an argument, and the modules of ``spectra/`` that call it say what it means.
"""
