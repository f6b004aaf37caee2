#define LEAD_FAST_ISA avx2
#define LEAD_FAST_ISA_NAME "avx2"
#define LEAD_FAST_WIDTH 8
#include "kernels.inl"
