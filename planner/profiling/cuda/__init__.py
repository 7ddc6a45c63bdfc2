"""What a GPU can do, measured without any framework: the driver, NVRTC and ONNX Runtime suffice.

device      memory, L2, launches, graph nodes, barriers: own kernels, driver copies
links       to the host and to other devices: driver copies; collectives: NCCL where torch is
library     products, attention, reductions, elementwise: ONNX Runtime's CUDA provider
formats     what ONNX Runtime has no kernel for (fp8, int8, 2:4): torch, where it is installed
"""
