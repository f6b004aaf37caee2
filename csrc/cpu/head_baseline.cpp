#define LEAD_FAST_ISA baseline
#include "head.inl"
