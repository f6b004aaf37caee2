#define LEAD_FAST_ISA avx512
#include "head.inl"
