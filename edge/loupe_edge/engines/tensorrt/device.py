"""What a plan depends on, as the GPU's driver and TensorRT tell it."""

from __future__ import annotations

import pycuda.driver as cuda
import tensorrt as trt

from loupe_edge.cuda.context import ORDINAL, cuda_explained
from loupe_edge.engines.tensorrt.key import DeviceKey, driver_release, jetson_release


def device_key() -> DeviceKey:
    """Say what compiles here, and for what.

    Raises:
        EngineError: There is no GPU, or the driver refuses.
    """
    with cuda_explained("the GPU cannot be used"):
        cuda.init()
        device = cuda.Device(ORDINAL)
        return DeviceKey(
            tensorrt=trt.__version__,
            gpu=device.name(),
            compute_capability=".".join(str(part) for part in device.compute_capability()),
            driver=f"CUDA {cuda.get_driver_version()} {driver_release()}".strip(),
            jetpack=jetson_release(),
        )
