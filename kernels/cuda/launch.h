#pragma once
// How host code starts a kernel written in the words of kernels/cuda/device.h, on a device or in
// the emulator.
//
//   LaunchKernel(kernel, {blocks, threads, shared bytes}, stream, arguments...)
//   AllowSharedMemory(kernel, bytes)      before a launch with more than 48 KiB; once a device
//   ReadDeviceSizes(sizes)                of the calling thread's current device
//
// stream is a cudaStream_t. Errors: a cudaError_t as an int, 0 for none; what happens on the device
// is reported by a later call on the stream, as in CUDA.

#include "kernels/cuda/launch_shape.h"

#ifdef __CUDACC__
#include "kernels/cuda/launch_nvcc.h"
#else
#include "kernels/cuda/emulation/launch_emulated.h"
#endif
