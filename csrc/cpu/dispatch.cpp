// Which instruction set the inner loops use in this process.

#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace lead_fast {
namespace {

bool has(const Kernels& set) {
#if defined(LEAD_FAST_X86)
    __builtin_cpu_init();
    if (&set == &avx512::table) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               has(avx2::table);
    }
    if (&set == &avx2::table) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
    }
#endif
    return &set == &baseline::table;
}

const Kernels* chosen = nullptr;

}  // namespace

const std::vector<const Kernels*>& compiled_kernels() {
    static const std::vector<const Kernels*> all = {
#if defined(LEAD_FAST_X86)
        &avx512::table, &avx2::table,
#endif
        &baseline::table};
    return all;
}

void choose_kernels(const std::string& name) {
    std::string names;
    for (const Kernels* set : compiled_kernels()) {
        if (has(*set) && (name.empty() || name == set->name)) {
            chosen = set;
            return;
        }
        if (has(*set)) names += std::string(names.empty() ? "" : ", ") + set->name;
    }
    throw std::invalid_argument("LEAD_FAST_ISA=" + name +
                                " is not an instruction set that this build and this processor "
                                "both have; choose one of: " +
                                names);
}

const Kernels& kernels() { return *chosen; }

}  // namespace lead_fast
