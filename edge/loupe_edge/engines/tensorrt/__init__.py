"""TensorRT on an NVIDIA GPU: a plan is built on the device, proved there, kept, and run.

`opening.open_planned` is the way in. Only `cache` and `key` can be imported without TensorRT and
PyCUDA, and nothing else imports the rest before a station asks for it.
"""
