// The inner loops of the SVM: small dense products and the dual sub-problem of one sample. Part of
// kernels.inl.

namespace lead_fast {
namespace LEAD_FAST_ISA {
namespace {

// ---- small dense products -------------------------------------------------------------------
// Rows x may be packed (simd.h) beside weights in float32. n is the length of a row.

inline Vec widened(const float* p, int) { return load(p); }
inline Vec64 widened(const double* p, int) { return load(p); }
#if defined(__AVX2__)
inline Vec from_bytes(const int8_t* p) {
#if defined(__AVX512F__)
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    // With masks: GCC 12 warns of its own header where there are none.
    return (Vec)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, bytes));
#else
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
#endif
}
inline Vec widened(const Coarse* p, int) { return from_bytes(&p->byte); }
inline Vec widened(const Fine* p, int n) {
    return from_bytes(&p->byte) + from_bytes(&p->byte + n) * (1.0f / kFinePart);
}
#endif

// Register tiles of R rows by C classes: R * C accumulators, R + 1 registers for operands. The
// first P spans are asked for on the way.

template <class T, int R, int C, int P, class X>
inline void dots_tile(const X* const* x, const T* w, int64_t ldw, int n, T* out, int64_t ldo,
                      const Span* ahead) {
    typedef typename VectorOf<T>::type V;
    V acc[R][C] = {};
    int64_t step[P > 0 ? P : 1];
    for (int p = 0; p < P; ++p) step[p] = (ahead[p].bytes + n - 1) / n;
    for (int j = 0; j < n; j += VectorOf<T>::width) {
        for (int p = 0; p < P; ++p) __builtin_prefetch(ahead[p].begin + j * step[p], 0, 2);
        V xv[R];
        for (int r = 0; r < R; ++r) xv[r] = widened(x[r] + j, n);
        for (int c = 0; c < C; ++c) {
            const V wv = load(w + c * ldw + j);
            for (int r = 0; r < R; ++r) acc[r][c] += xv[r] * wv;
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) out[r * ldo + c] = sum<T>(acc[r][c]);
    }
}

template <class T, int R, int P, class X>
inline void dots_rows(const X* const* x, const T* w, int64_t ldw, int classes, int n, T* out,
                      int64_t ldo, const Span* ahead) {
    switch (classes) {
        case 1: return dots_tile<T, R, 1, P>(x, w, ldw, n, out, ldo, ahead);
        case 2: return dots_tile<T, R, 2, P>(x, w, ldw, n, out, ldo, ahead);
        case 3: return dots_tile<T, R, 3, P>(x, w, ldw, n, out, ldo, ahead);
        case 4: return dots_tile<T, R, 4, P>(x, w, ldw, n, out, ldo, ahead);
        default: return dots_tile<T, R, 5, P>(x, w, ldw, n, out, ldo, ahead);
    }
}

constexpr int kRows = W == 16 ? 4 : 2;
constexpr int kClasses = 5;

inline void ask_for(const Span& span) {
    for (int64_t b = 0; b < span.bytes; b += 64) __builtin_prefetch(span.begin + b, 0, 2);
}

template <class T, class X>
void dots_lines(const X* const* x, int rows, const T* w, int64_t ldw, int classes, int n, T* out,
                int64_t ldo, const Span* ahead, int spans) {
    for (int r = 0; r < rows;) {
        const int group = r + kRows <= rows ? kRows : 1;
        for (int c = 0; c < classes; c += kClasses) {
            const int count = classes - c < kClasses ? classes - c : kClasses;
            const T* part = w + c * ldw;
            T* to = out + r * ldo + c;
            // Two spans with each full tile: in a burst they would hold the products up.
            if (group == kRows && spans >= 2) {
                dots_rows<T, kRows, 2>(x + r, part, ldw, count, n, to, ldo, ahead);
                ahead += 2;
                spans -= 2;
            } else if (group == kRows) {
                dots_rows<T, kRows, 0>(x + r, part, ldw, count, n, to, ldo, ahead);
            } else {
                dots_rows<T, 1, 0>(x + r, part, ldw, count, n, to, ldo, ahead);
            }
        }
        r += group;
    }
    for (int i = 0; i < spans; ++i) ask_for(ahead[i]);
}

template <class T>
void dots(const T* x, int64_t ldx, int rows, const T* w, int64_t ldw, int classes, int n, T* out,
          int64_t ldo) {
    const T* line[kRows];
    for (int first = 0; first < rows; first += kRows) {
        const int count = rows - first < kRows ? rows - first : kRows;
        for (int r = 0; r < count; ++r) line[r] = x + (first + r) * ldx;
        dots_lines<T>(line, count, w, ldw, classes, n, out + first * ldo, ldo, nullptr, 0);
    }
}

// C classes by N vectors of columns stay in registers while the rows stream past.
template <class T, int C, int N>
inline void update_tile(T* w, int64_t ldw, const T* const* x, int rows, const T* coefficient,
                        int64_t ldc, int j) {
    typedef typename VectorOf<T>::type V;
    constexpr int width = VectorOf<T>::width;
    V acc[C][N];
    for (int c = 0; c < C; ++c) {
        for (int v = 0; v < N; ++v) acc[c][v] = load(w + c * ldw + j + v * width);
    }
    for (int r = 0; r < rows; ++r) {
        V xv[N];
        for (int v = 0; v < N; ++v) xv[v] = load(x[r] + j + v * width);
        for (int c = 0; c < C; ++c) {
            const V a = splat(coefficient[r * ldc + c]);
            for (int v = 0; v < N; ++v) acc[c][v] += a * xv[v];
        }
    }
    for (int c = 0; c < C; ++c) {
        for (int v = 0; v < N; ++v) store(w + c * ldw + j + v * width, acc[c][v]);
    }
}

template <class T, int C>
inline void update_classes(T* w, int64_t ldw, const T* const* x, int rows, const T* coefficient,
                           int64_t ldc, int n) {
    constexpr int width = VectorOf<T>::width;
    int j = 0;
    for (; j + 2 * width <= n; j += 2 * width) {
        update_tile<T, C, 2>(w, ldw, x, rows, coefficient, ldc, j);
    }
    for (; j < n; j += width) update_tile<T, C, 1>(w, ldw, x, rows, coefficient, ldc, j);
}

template <class T>
void update(T* w, int64_t ldw, int classes, const T* const* x, int rows, const T* coefficient,
            int64_t ldc, int n) {
    int c = 0;
    for (; c + 5 <= classes; c += 5) {
        update_classes<T, 5>(w + c * ldw, ldw, x, rows, coefficient + c, ldc, n);
    }
    for (; c < classes; ++c) {
        update_classes<T, 1>(w + c * ldw, ldw, x, rows, coefficient + c, ldc, n);
    }
}

template <class T, int C, class X>
inline void dots_few(const X* x, const T* w, int64_t ldw, const int* list, int n, T* out) {
    typedef typename VectorOf<T>::type V;
    constexpr int width = VectorOf<T>::width;
    const T* line[C];
    for (int c = 0; c < C; ++c) line[c] = w + list[c] * ldw;
    V acc[C] = {}, more[C] = {};
    int j = 0;
    for (; j + 2 * width <= n; j += 2 * width) {
        const V x0 = widened(x + j, n), x1 = widened(x + j + width, n);
        for (int c = 0; c < C; ++c) {
            acc[c] += x0 * load(line[c] + j);
            more[c] += x1 * load(line[c] + j + width);
        }
    }
    if (j < n) {
        const V x0 = widened(x + j, n);
        for (int c = 0; c < C; ++c) acc[c] += x0 * load(line[c] + j);
    }
    for (int c = 0; c < C; ++c) out[list[c]] = sum<T>(acc[c] + more[c]);
}

// One row against a list of classes.
template <class T, class X>
void dots_list(const X* x, const T* w, int64_t ldw, const int* list, int count, int n, T* out) {
    int c = 0;
    for (; c + 4 <= count; c += 4) dots_few<T, 4>(x, w, ldw, list + c, n, out);
    switch (count - c) {
        case 1: dots_few<T, 1>(x, w, ldw, list + c, n, out); break;
        case 2: dots_few<T, 2>(x, w, ldw, list + c, n, out); break;
        case 3: dots_few<T, 3>(x, w, ldw, list + c, n, out); break;
        default: break;
    }
}

// One class from a list of rows.
template <class T, class X>
void update_list(T* w, const X* const* x, const T* coefficient, int rows, int n) {
    typedef typename VectorOf<T>::type V;
    constexpr int width = VectorOf<T>::width;
    int j = 0;
    for (; j + 4 * width <= n; j += 4 * width) {
        V acc[4];
        for (int v = 0; v < 4; ++v) acc[v] = load(w + j + v * width);
        for (int r = 0; r < rows; ++r) {
            const V a = splat(coefficient[r]);
            for (int v = 0; v < 4; ++v) acc[v] += a * widened(x[r] + j + v * width, n);
        }
        for (int v = 0; v < 4; ++v) store(w + j + v * width, acc[v]);
    }
    for (; j < n; j += width) {
        V acc = load(w + j);
        for (int r = 0; r < rows; ++r) acc += splat(coefficient[r]) * widened(x[r] + j, n);
        store(w + j, acc);
    }
}

template <class T>
double square_norm(const T* a, int64_t n) {
    double total = 0.0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; ++j) {
        total += static_cast<double>(a[j]) * static_cast<double>(a[j]);
    }
    return total;
}

// ---- the dual sub-problem of one sample -------------------------------------------------------
// alpha[k] >= 0 for k != y is the multiplier of the margin constraint of class k; the sample adds
// (sum alpha) z to W_y and -alpha[k] z to W_k. With q = <z, z> + 1 and g_k = 1 - f_y + f_k, one
// sample's optimum satisfies
//   alpha_k = clip((G_k - a A) / d, 0, U),  A = sum_k alpha_k,  G_k = g_k + q (alpha_k + A) at
//   entry,
// with ww, hinge 1: d = a = q, U = C; ww, hinge 2: d = q + 1/(2C), a = q, U = inf;
// cs, hinge 2: d = q, a = q + 1/(2C), U = inf; cs, hinge 1: d = a = q, U = inf and, where that
// gives A > C, the threshold theta instead of a A that makes A = C. The left side falls and the
// right side rises with A: one root. Newton's steps on this piecewise linear equation, kept inside
// a bracket, end on the exact linear piece.

constexpr double kInfinity = INFINITY;

template <class T>
struct Clip {
    T slope_inverse;  // 1 / d
    T upper;          // U
};

// Steps smaller than this, relative to the root, are rounding.
template <class T>
inline T resolution() {
    return sizeof(T) == 4 ? static_cast<T>(1e-7) : static_cast<T>(1e-15);
}

template <class T>
inline T magnitude(T a) {
    return a < 0 ? -a : a;
}

// Sum of clip((G_k - theta) / d, 0, U) over the classes, and how many are strictly inside.
template <class T>
inline T clipped_sum(const T* G, int stride, T theta, Clip<T> clip, T* inside) {
    typedef typename VectorOf<T>::type V;
    V total = {}, count = {};
    const V zero = {}, upper = splat(clip.upper), one = splat(static_cast<T>(1));
    for (int k = 0; k < stride; k += VectorOf<T>::width) {
        const V v = (load(G + k) - theta) * clip.slope_inverse;
        const V positive = v > zero ? v : zero;
        total += positive < upper ? positive : upper;
        const V in = v > zero ? one : zero;
        count += v < upper ? in : zero;
    }
    *inside = sum<T>(count);
    return sum<T>(total);
}

// The root A of clipped_sum(a A) = A.
template <class T>
inline T solve_total(const T* G, int stride, T a, Clip<T> clip, T start) {
    // h(A) = clipped_sum(a A) - A falls strictly; its slope is -(inside * a / d + 1).
    T low = 0, high = static_cast<T>(kInfinity), A = start;
    for (int step = 0; step < 100; ++step) {
        T inside;
        const T h = clipped_sum(G, stride, a * A, clip, &inside) - A;
        if (h > 0) {
            low = A;
        } else if (h < 0) {
            high = A;
        } else {
            return A;
        }
        T next = A + h / (inside * a * clip.slope_inverse + 1);
        if (magnitude(next - A) <= resolution<T>() * A) return next;
        if (!(next > low)) next = high < static_cast<T>(kInfinity) ? (low + high) / 2 : low;
        if (!(next < high)) next = (low + high) / 2;
        if (next == A) return A;  // the bracket is down to neighbouring numbers
        A = next;
    }
    return A;
}

// theta with sum max(0, (G_k - theta) / d) = target. Convex: Newton from below never overshoots.
template <class T>
inline T solve_threshold(const T* G, int stride, Clip<T> clip, T target, T theta) {
    for (int step = 0; step < 100; ++step) {
        T inside;
        const T h = clipped_sum(G, stride, theta, clip, &inside) - target;
        const T next = theta + h / (inside * clip.slope_inverse);
        if (!(next > theta + resolution<T>() * magnitude(theta))) return next;
        theta = next;
    }
    return theta;
}

template <class T>
struct Outcome {
    T gap;        // C loss + conjugate - alpha . g at entry: at least 0, and 0 at the optimum
    T violation;  // largest change of a multiplier, in units of the gradient
};

// All-in-one forms (ww, cs). change[k] becomes the change of the sample's coefficient in W_k.
template <class T>
inline Outcome<T> solve_sample(const DualBlock<T>& b, const T* f, const T* frozen, T* alpha,
                               T* change, T* slack, int label, T q) {
    typedef typename VectorOf<T>::type V;
    constexpr int width = VectorOf<T>::width;
    const T infinity = static_cast<T>(kInfinity);
    const int stride = b.stride;
    const bool ww = b.form == SvmForm::weston_watkins;
    const T fy = f[label];
    const T half = b.hinge == 2 ? static_cast<T>(0.5) / b.cost : 0;
    const T upper = ww && b.hinge == 1 ? b.cost : infinity;
    const V zero = {}, top = splat(upper), endless = splat(infinity);
    T* G = b.scratch;

    // Padded classes have frozen = -inf, so G = -inf and their alpha stays 0.
    V vtotal = {};
    for (int k = 0; k < stride; k += width) {
        store(G + k, load(f + k) + (1 - fy) + load(frozen + k));
        vtotal += load(alpha + k);
    }
    const T A = sum<T>(vtotal);
    G[label] = -infinity;
    // Frozen pairs stand at their bounds and have no gap.
    V vloss = {}, vworst = {}, vproduct = {}, vsquare = {};
    for (int k = 0; k < stride; k += width) {
        const V g = load(G + k), al = load(alpha + k);
        const V size = g < zero ? zero - g : g;
        const V finite = size < endless ? g : zero;
        const V h = finite > zero ? finite : zero;
        vloss += b.hinge == 2 ? h * h : h;
        vworst = h > vworst ? h : vworst;
        vproduct += al * finite;
        vsquare += al * al;
    }
    const T worst = largest<T>(vworst);
    Outcome<T> out;
    out.violation = 0;
    if (A == 0 && !(worst > 0)) {  // satisfied with all multipliers at zero
        out.gap = 0;
        for (int k = 0; k < stride; k += width) store(slack + k, load(G + k));
        return out;
    }
    const T loss = ww ? sum<T>(vloss) : b.hinge == 2 ? worst * worst : worst;
    out.gap = b.cost * loss - sum<T>(vproduct);
    if (b.hinge == 2) out.gap += (ww ? sum<T>(vsquare) : A * A) / (4 * b.cost);
    for (int k = 0; k < stride; k += width) {
        store(G + k, load(G + k) + q * (load(alpha + k) + A));
    }
    const T d = ww ? q + half : q;
    const Clip<T> clip = {1 / d, upper};
    const T a = ww ? q : q + half;
    const T total = solve_total(G, stride, a, clip, A);
    T theta = a * total;
    if (!ww && b.hinge == 1 && total > b.cost) {
        theta = solve_threshold(G, stride, clip, b.cost, theta);
    }
    V vmost = {}, vdelta = {};
    for (int k = 0; k < stride; k += width) {
        const V g = load(G + k) - theta;
        V v = g * clip.slope_inverse;
        v = v > zero ? v : zero;
        v = v < top ? v : top;
        const V delta = v - load(alpha + k);
        store(slack + k, g - d * v);
        store(alpha + k, v);
        store(change + k, zero - delta);
        vdelta += delta;
        const V size = delta > zero ? delta : zero - delta;
        vmost = size > vmost ? size : vmost;
    }
    out.violation = largest<T>(vmost) * d;
    change[label] = sum<T>(vdelta);
    return out;
}

// One-vs-rest: the classes are independent; alpha[k] of class k, s = +1 for the label, else -1.
template <class T>
inline Outcome<T> solve_independent(const DualBlock<T>& b, const T* f, const T* frozen, T* alpha,
                                    T* change, T* slack, int label, T q) {
    typedef typename VectorOf<T>::type V;
    constexpr int width = VectorOf<T>::width;
    const T half = b.hinge == 2 ? static_cast<T>(0.5) / b.cost : 0;
    const V zero = {}, top = splat(b.hinge == 1 ? b.cost : static_cast<T>(kInfinity));
    const T d = q + half, inverse = 1 / d;
    const T quarter = b.hinge == 2 ? static_cast<T>(0.25) / b.cost : 0;
    V vgap = {}, vmost = {};
    T* sign = b.scratch;  // -1 everywhere but +1 at the label
    sign[label] = 1;
    for (int k = 0; k < b.stride; k += width) {
        const V s = load(sign + k), al = load(alpha + k), fr = load(frozen + k);
        const V margin = 1 - s * load(f + k);
        const V h = margin > zero ? margin : zero;
        const V gap = b.cost * (b.hinge == 2 ? h * h : h) + al * (quarter * al - margin);
        vgap += fr == zero ? gap : zero;
        V v = al + (margin - half * al) * inverse;
        v = v > zero ? v : zero;
        v = v < top ? v : top;
        v = fr == zero ? v : al;
        const V delta = v - al;
        store(slack + k, margin - half * v - q * delta);
        store(alpha + k, v);
        store(change + k, s * delta);
        const V size = (delta > zero ? delta : zero - delta) * d;
        // The classes are problems of their own: each has its own largest change.
        const V reach = load(b.violation + k);
        store(b.violation + k, size > reach ? size : reach);
        vmost = size > vmost ? size : vmost;
    }
    sign[label] = -1;
    Outcome<T> out;
    out.gap = sum<T>(vgap);
    out.violation = largest<T>(vmost);
    return out;
}

// sum alpha - (hinge 2) sum alpha^2 / (4C) for ww and ovr, (sum alpha)^2 / (4C) for cs.
template <class T>
inline double dual_terms(const DualBlock<T>& b, const T* alpha) {
    typename VectorOf<T>::type total = {}, square = {};
    for (int k = 0; k < b.stride; k += VectorOf<T>::width) {
        const typename VectorOf<T>::type al = load(alpha + k);
        total += al;
        square += al * al;
    }
    const double A = static_cast<double>(sum<T>(total));
    if (b.hinge == 1) return A;
    const double S =
        b.form == SvmForm::crammer_singer ? A * A : static_cast<double>(sum<T>(square));
    return A - S / (4.0 * static_cast<double>(b.cost));
}

// A pair at a bound whose gradient points out of the box by more than `threshold` is not expected
// back soon: it is frozen (frozen = -inf at 0, +inf at the upper bound).
template <class T>
inline void freeze(const DualBlock<T>& b, const T* slack, const T* before, const T* alpha,
                   T* frozen, int label) {
    typedef typename VectorOf<T>::type V;
    const bool boxed = b.hinge == 1 && b.form != SvmForm::crammer_singer;
    const T own = frozen[label];
    const V zero = {}, up = splat(static_cast<T>(kInfinity)), down = zero - up;
    const V top = boxed ? splat(b.cost) : up;
    for (int k = 0; k < b.stride; k += VectorOf<T>::width) {
        const V now = load(alpha + k), then = load(before + k), s = load(slack + k);
        const V limit = load(b.threshold + k);
        V code = load(frozen + k);
        const auto free = code == zero;
        const auto low = free & (now == zero) & (then == zero) & (s < zero - limit);
        const auto high = free & (now == top) & (then == top) & (s > limit);
        code = low ? down : code;
        code = high ? up : code;
        store(frozen + k, code);
    }
    // Not a variable, and its slack means nothing.
    if (b.form != SvmForm::one_vs_rest) frozen[label] = own;
}

// One sample's sub-problem from decision values f; alpha, change and slack are overwritten.
template <class T>
inline Outcome<T> solve_one(DualBlock<T>& b, int i, T* alpha, T* slack) {
    const int64_t at = static_cast<int64_t>(i) * b.stride;
    const T* f = b.decision + at;
    const T* frozen = b.frozen + at;
    T* change = b.change + at;
    if (b.form == SvmForm::one_vs_rest) {
        return solve_independent(b, f, frozen, alpha, change, slack, b.labels[i], b.square[i]);
    }
    const Outcome<T> out =
        solve_sample(b, f, frozen, alpha, change, slack, b.labels[i], b.square[i]);
    if (out.violation > b.violation[0]) b.violation[0] = out.violation;
    return out;
}

template <class T>
inline void prepare_scratch(const DualBlock<T>& b) {
    if (b.form != SvmForm::one_vs_rest) return;
    for (int k = 0; k < b.stride; ++k) b.scratch[k] = -1;
}

template <class T>
void inspect_block(DualBlock<T>& b) {
    prepare_scratch(b);
    T* slack = b.scratch + b.stride;
    T* trial = b.scratch + 2 * b.stride;
    for (int i = 0; i < b.rows; ++i) {
        const int64_t at = static_cast<int64_t>(i) * b.stride;
        memcpy(trial, b.alpha + at, static_cast<size_t>(b.stride) * sizeof(T));
        b.gap[i] = solve_one(b, i, trial, slack).gap;
        freeze(b, slack, b.alpha + at, trial, b.frozen + at, b.labels[i]);
    }
}

template <class T>
void decode_frozen(const int8_t* code, T* frozen, int n) {
    const T infinity = static_cast<T>(kInfinity);
    for (int k = 0; k < n; ++k) {
        frozen[k] = code[k] == 0 ? T(0) : code[k] > 0 ? infinity : -infinity;
    }
}

template <class T>
int encode_frozen(const T* frozen, int8_t* code, int n) {
    int free = 0;
    for (int k = 0; k < n; ++k) {
        code[k] = static_cast<int8_t>((frozen[k] > 0) - (frozen[k] < 0));
        free += frozen[k] == 0;
    }
    return free;
}

template <class T>
void solve_block(DualBlock<T>& b) {
    prepare_scratch(b);
    T* slack = b.scratch + b.stride;
    T* before = b.scratch + 2 * b.stride;
    b.dual_gain = 0.0;
    int asked = 0;
    for (int step = 0; step < b.rows; ++step) {
        // One sample after the other leaves the processor time to wait for memory beside.
        for (; asked * b.rows < b.spans * (step + 1); ++asked) ask_for(b.ahead[asked]);
        const int i = b.order[step];
        const int64_t at = static_cast<int64_t>(i) * b.stride;
        T* alpha = b.alpha + at;
        T* change = b.change + at;
        T* frozen = b.frozen + at;
        const double terms = dual_terms(b, alpha);
        memcpy(before, alpha, static_cast<size_t>(b.stride) * sizeof(T));
        const Outcome<T> out = solve_one(b, i, alpha, slack);
        b.gap[i] = out.gap;
        b.moved[i] = out.violation;
        b.changed[i] = out.violation > 0;
        freeze(b, slack, before, alpha, frozen, b.labels[i]);
        if (!b.changed[i]) continue;
        b.dual_gain += dual_terms(b, alpha) - terms;
        const T* line = b.gram + static_cast<int64_t>(b.member[i]) * b.gram_stride;
        // The samples still to come in this block see the change through the Gram matrix.
        for (int later = step + 1; later < b.rows; ++later) {
            const int r = b.order[later];
            T* fr = b.decision + static_cast<int64_t>(r) * b.stride;
            const T g = line[b.member[r]];
            for (int k = 0; k < b.stride; k += VectorOf<T>::width) {
                store(fr + k, load(fr + k) + g * load(change + k));
            }
        }
    }
}

}  // namespace
}  // namespace LEAD_FAST_ISA
}  // namespace lead_fast
