// Products of a float32 matrix with as many columns as there are classes. cuBLAS reaches 40 % of
// the memory's bandwidth with ten of them; here the matrix is read once, in whole rows, and the
// small factor comes from shared memory.

#include <algorithm>
#include <type_traits>

#include "svm_narrow.cuh"
#include "svm_narrow.h"

namespace lead_fast {
namespace cuda {
namespace {

constexpr int kMost = 16;             // classes
constexpr std::int64_t kLeast = 256;  // columns of x: fewer leave lanes idle
constexpr int kShared = 96 * 1024;  // bytes of the small factor in shared memory, if they are there
constexpr int kSharedAnywhere = 48 * 1024;
constexpr int kRows = 4;
constexpr std::int64_t kSummed = 2048;  // rows at most that are summed in float32

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

template <int K>
void rows_of(const Call& call, const FeatureMatrix& x, const float* wide, int classes,
             float* values) {
    const auto kernel = narrow_rows_kernel<K, kRows>;
    const int room =
        call.facts().block_memory >= static_cast<std::size_t>(kShared) ? kShared : kSharedAnywhere;
    const int d = static_cast<int>(x.d);
    const int tile = std::min(d, room / (4 * K) / 128 * 128);
    const std::size_t shared = sizeof(float) * static_cast<std::size_t>(tile) * K;
    // Always the same, as other threads may be about to launch the same kernel.
    LEAD_FAST_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, room));
    int resident = 0;
    LEAD_FAST_CHECK(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kNarrowThreads, shared));
    const std::int64_t wanted = (x.n + kNarrowWarps * kRows - 1) / (kNarrowWarps * kRows);
    const std::int64_t most = std::int64_t{std::max(resident, 1)} * call.facts().processors;
    kernel<<<static_cast<unsigned>(std::min(wanted, most)), kNarrowThreads, shared,
             call.stream()>>>(static_cast<const float*>(x.data), x.row_bytes / 4, x.n, d, classes,
                              tile, wide, values);
    LEAD_FAST_LAUNCHED(narrow_rows_kernel, call.stream());
}

template <int K>
void columns_of(const Call& call, const FeatureMatrix& x, const float* g, int classes,
                float* product) {
    const auto kernel = narrow_columns_kernel<K>;
    const int d = static_cast<int>(x.d);
    const unsigned tiles =
        static_cast<unsigned>((d + 4 * kNarrowThreads - 1) / (4 * kNarrowThreads));
    int resident = 0;
    LEAD_FAST_CHECK(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kNarrowThreads, 0));
    // As many splits as run at once, unless that leaves few rows to each, or too many.
    const std::int64_t at_once =
        std::int64_t{std::max(resident, 1)} * call.facts().processors / tiles;
    const std::int64_t most = (x.n + 4 * kNarrowRows - 1) / (4 * kNarrowRows);
    const std::int64_t least = (x.n + kSummed - 1) / kSummed;
    const unsigned splits = static_cast<unsigned>(
        std::min<std::int64_t>(65535, std::max({least, std::min(at_once, most), std::int64_t{1}})));
    const std::int64_t cells = static_cast<std::int64_t>(classes) * d;
    const Buffer<float> partial(call, cells * splits);
    kernel<<<dim3(tiles, splits), kNarrowThreads, 0, call.stream()>>>(
        static_cast<const float*>(x.data), x.row_bytes / 4, x.n, d, classes, g, partial.data());
    LEAD_FAST_LAUNCHED(narrow_columns_kernel, call.stream());
    narrow_sum_kernel<<<static_cast<unsigned>((cells + kNarrowThreads - 1) / kNarrowThreads),
                        kNarrowThreads, 0, call.stream()>>>(
        partial.data(), static_cast<int>(splits), cells, product);
    LEAD_FAST_LAUNCHED(narrow_sum_kernel, call.stream());
}

// Calls body with the classes of the kernel to take, as a type.
template <class Body>
void with_most(int classes, Body body) {
    if (classes <= 4) return body(std::integral_constant<int, 4>());
    if (classes <= 8) return body(std::integral_constant<int, 8>());
    if (classes <= 12) return body(std::integral_constant<int, 12>());
    body(std::integral_constant<int, kMost>());
}

}  // namespace

bool narrow_suits(const FeatureMatrix& x, std::int64_t classes) {
    return x.dtype == DType::float32 && classes <= kMost && x.n > 0 && x.d >= kLeast &&
           x.d <= 0x7fffffff / kMost && x.d % 4 == 0 && x.row_bytes % 16 == 0 && aligned(x.data);
}

void narrow_rows(const Call& call, const FeatureMatrix& x, const float* wide, int classes,
                 float* values) {
    with_most(classes, [&](auto most) { rows_of<most()>(call, x, wide, classes, values); });
}

void narrow_columns(const Call& call, const FeatureMatrix& x, const float* g, int classes,
                    float* product) {
    with_most(classes, [&](auto most) { columns_of<most()>(call, x, g, classes, product); });
}

}  // namespace cuda
}  // namespace lead_fast
