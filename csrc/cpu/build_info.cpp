#include "../build_info.h"

#include <omp.h>
#include <pthread.h>

#include <sstream>

#include "build_config.h"
#include "dispatch.h"

namespace lead_fast {
namespace {

bool forked = false;

void note_fork() { forked = true; }

// Registered when the module is loaded.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, note_fork);

std::vector<std::string> processor_features() {
    std::vector<std::string> found;
#if defined(LEAD_FAST_X86)
    __builtin_cpu_init();
#define LEAD_FAST_FEATURE(name) \
    if (__builtin_cpu_supports(name)) found.emplace_back(name)
    LEAD_FAST_FEATURE("sse4.2");
    LEAD_FAST_FEATURE("avx");
    LEAD_FAST_FEATURE("avx2");
    LEAD_FAST_FEATURE("fma");
    LEAD_FAST_FEATURE("f16c");
    LEAD_FAST_FEATURE("avx512f");
    LEAD_FAST_FEATURE("avx512bw");
    LEAD_FAST_FEATURE("avx512dq");
    LEAD_FAST_FEATURE("avx512vl");
#undef LEAD_FAST_FEATURE
#endif
    return found;
}

}  // namespace

int max_threads() { return forked ? 1 : omp_get_max_threads(); }

BuildInfo build_info() {
    BuildInfo info;
    info.version = LEAD_FAST_VERSION;
    info.compiler = LEAD_FAST_COMPILER;
    info.flags = LEAD_FAST_CXX_FLAGS;
    info.build_type = LEAD_FAST_BUILD_TYPE;
    info.instruction_set = kernels().name;
    for (const Kernels* set : compiled_kernels())
        info.instruction_sets_compiled.emplace_back(set->name);
    info.processor_features = processor_features();
    info.cuda = LEAD_FAST_WITH_CUDA != 0;
    info.cuda_reason = LEAD_FAST_CUDA_STATUS;
    info.cuda_version = LEAD_FAST_CUDA_VERSION;
    std::istringstream targets(LEAD_FAST_CUDA_TARGETS);
    for (std::string target; targets >> target;) info.cuda_architectures.push_back(target);
    info.openmp_version = _OPENMP;
    info.openmp_threads = max_threads();
    return info;
}

}  // namespace lead_fast
