// Reading the caller's features: widening, mapping, moments. Part of kernels.inl.

namespace lead_fast {
namespace LEAD_FAST_ISA {
namespace {

// float32 values of 16 consecutive half or bfloat16 numbers.
inline void widen16(DType dtype, const uint16_t* src, float* dst) {
    if (dtype == DType::float16) {
#if defined(__AVX512F__)
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
        // With a mask: GCC 12 warns of its own header where there is none.
        _mm512_storeu_ps(dst, _mm512_maskz_cvtph_ps(0xffff, half));
#elif defined(__F16C__)
        for (int j = 0; j < 16; j += 8) {
            __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + j));
            _mm256_storeu_ps(dst + j, _mm256_cvtph_ps(half));
        }
#else
        for (int j = 0; j < 16; ++j) dst[j] = from_half_bits(src[j]);
#endif
    } else {
        for (int j = 0; j < 16; ++j) dst[j] = from_bfloat_bits(src[j]);
    }
}

// Calls body(first, count, values) on successive pieces of at most 16 float32 values.
template <class Body>
inline void for_pieces(DType dtype, const uint16_t* src, int64_t d, Body body) {
    float piece[16];
    int64_t j = 0;
    for (; j + 16 <= d; j += 16) {
        widen16(dtype, src + j, piece);
        body(j, 16, piece);
    }
    if (j < d) {
        uint16_t rest[16] = {};
        memcpy(rest, src + j, static_cast<size_t>(d - j) * 2);
        widen16(dtype, rest, piece);
        body(j, static_cast<int>(d - j), piece);
    }
}

inline void map_values(const float* x, int64_t first, int64_t count, const Map32& map, float* dst) {
    const float* centre = map.centre + first;
    const float* inverse = map.inverse_scale + first;
    const float* correction = map.correction + first;
    for (int64_t j = 0; j < count; ++j) {
        dst[first + j] = (x[j] - centre[j]) * inverse[j] + correction[j];
    }
}

void map_row(DType dtype, const void* src, int64_t d, const Map32& map, const double* centre,
             const double* inverse_scale, float* dst, int64_t padded_d) {
    if (dtype == DType::float32) {
        map_values(static_cast<const float*>(src), 0, d, map, dst);
    } else if (dtype == DType::float64) {
        const double* x = static_cast<const double*>(src);
        for (int64_t j = 0; j < d; ++j) {
            dst[j] = static_cast<float>((x[j] - centre[j]) * inverse_scale[j]);
        }
    } else {
        for_pieces(
            dtype, static_cast<const uint16_t*>(src), d,
            [&](int64_t j, int count, const float* x) { map_values(x, j, count, map, dst); });
    }
    for (int64_t j = d; j < padded_d; ++j) dst[j] = 0.0f;
}

void map_row_exact(DType dtype, const void* src, int64_t d, const double* centre,
                   const double* inverse_scale, double* dst, int64_t padded_d) {
    if (dtype == DType::float32) {
        const float* x = static_cast<const float*>(src);
        for (int64_t j = 0; j < d; ++j) {
            dst[j] = (static_cast<double>(x[j]) - centre[j]) * inverse_scale[j];
        }
    } else if (dtype == DType::float64) {
        const double* x = static_cast<const double*>(src);
        for (int64_t j = 0; j < d; ++j) dst[j] = (x[j] - centre[j]) * inverse_scale[j];
    } else {
        for_pieces(dtype, static_cast<const uint16_t*>(src), d,
                   [&](int64_t j, int count, const float* x) {
                       for (int i = 0; i < count; ++i) {
                           const double value = static_cast<double>(x[i]);
                           dst[j + i] = (value - centre[j + i]) * inverse_scale[j + i];
                       }
                   });
    }
    for (int64_t j = d; j < padded_d; ++j) dst[j] = 0.0;
}

void widen_row(DType dtype, const void* src, int64_t d, float* dst) {
    if (dtype == DType::float32) {
        memcpy(dst, src, static_cast<size_t>(d) * 4);
    } else if (dtype == DType::float64) {
        const double* x = static_cast<const double*>(src);
        for (int64_t j = 0; j < d; ++j) dst[j] = static_cast<float>(x[j]);
    } else {
        const uint16_t* bits = static_cast<const uint16_t*>(src);
        int64_t whole = 0;
        for (; whole + 16 <= d; whole += 16) widen16(dtype, bits + whole, dst + whole);
        for_pieces(dtype, bits + whole, d - whole, [&](int64_t j, int count, const float* x) {
            memcpy(dst + whole + j, x, static_cast<size_t>(count) * 4);
        });
    }
}

#if defined(__AVX2__)
inline int8_t rounded(float value) {
    return static_cast<int8_t>(value + (value < 0 ? -0.5f : 0.5f));
}

float pack_row(const float* src, int64_t n, int8_t* dst) {
    float most = 0.0f;
    for (int64_t j = 0; j < n; ++j) {
        const float size = src[j] < 0 ? -src[j] : src[j];
        most = size > most ? size : most;
    }
    const float factor = most > 0 ? 127.0f / most : 0.0f;
    for (int64_t j = 0; j < n; ++j) {
        const float value = src[j] * factor;
        const int8_t coarse = rounded(value);
        dst[j] = coarse;
        dst[n + j] = rounded((value - static_cast<float>(coarse)) * kFinePart);
    }
    return most / 127.0f;
}
#endif

template <class T>
inline void add_moments(const T* x, int64_t first, int64_t count, const double* shift, double* sum,
                        double* square) {
    for (int64_t i = 0; i < count; ++i) {
        double v = static_cast<double>(x[i]) - shift[first + i];
        sum[first + i] += v;
        square[first + i] += v * v;
    }
}

void moments(DType dtype, const void* src, int64_t d, const double* shift, double* sum,
             double* square) {
    if (dtype == DType::float32) {
        add_moments(static_cast<const float*>(src), 0, d, shift, sum, square);
    } else if (dtype == DType::float64) {
        add_moments(static_cast<const double*>(src), 0, d, shift, sum, square);
    } else {
        for_pieces(dtype, static_cast<const uint16_t*>(src), d,
                   [&](int64_t j, int count, const float* x) {
                       add_moments(x, j, count, shift, sum, square);
                   });
    }
}

}  // namespace
}  // namespace LEAD_FAST_ISA
}  // namespace lead_fast
