#define LEAD_FAST_ISA avx2
#include "head.inl"
