// For functions that both compilers take.
#pragma once

#if defined(__CUDACC__)
#define LEAD_FAST_HOST_DEVICE __host__ __device__
#else
#define LEAD_FAST_HOST_DEVICE
#endif
