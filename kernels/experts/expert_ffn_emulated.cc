// The launchers compiled for the emulator.
#include "kernels/experts/expert_ffn_cuda.cu"
