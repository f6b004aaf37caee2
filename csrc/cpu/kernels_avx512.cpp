#define LEAD_FAST_ISA avx512
#define LEAD_FAST_ISA_NAME "avx512"
#define LEAD_FAST_WIDTH 16
#include "kernels.inl"
