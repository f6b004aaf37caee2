#define LEAD_FAST_ISA baseline
#define LEAD_FAST_ISA_NAME "baseline"
#define LEAD_FAST_WIDTH 4
#include "kernels.inl"
