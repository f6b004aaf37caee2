// Row-major products on column-major BLAS: the transposes of what is meant.

#include "blas.h"

namespace lead_fast {

Blas& blas() {
    static Blas table;
    return table;
}

void matmul(const float* a, const float* b, bool transpose_b, int m, int n, int k, float* c) {
    char none = 'N', turn = transpose_b ? 'T' : 'N';
    int ldb = transpose_b ? k : n;
    float one = 1.0f, zero = 0.0f;
    blas().sgemm(&turn, &none, &n, &m, &k, &one, const_cast<float*>(b), &ldb, const_cast<float*>(a),
                 &k, &zero, c, &n);
}

void matmul(const double* a, const double* b, bool transpose_a, int m, int n, int k, double* c) {
    char none = 'N', turn = transpose_a ? 'T' : 'N';
    int lda = transpose_a ? m : k;
    double one = 1.0, zero = 0.0;
    blas().dgemm(&none, &turn, &n, &m, &k, &one, const_cast<double*>(b), &n, const_cast<double*>(a),
                 &lda, &zero, c, &n);
}

void gram(const float* a, int m, int k, float* c) {
    char upper = 'U', turn = 'T';
    float one = 1.0f, zero = 0.0f;
    // Column-major upper triangle: c[i * m + j] with j <= i in row-major terms.
    blas().ssyrk(&upper, &turn, &m, &k, &one, const_cast<float*>(a), &k, &zero, c, &m);
    for (long i = 0; i < m; ++i) {
        for (long j = 0; j < i; ++j) c[j * m + i] = c[i * m + j];
    }
}

namespace {

template <class T, class Syrk>
void syrk(Syrk call, const T* a, bool rows, int size, int inner, int ld, bool add, T* c) {
    char upper = 'U', turn = rows ? 'T' : 'N';
    T one = 1, beta = add ? 1 : 0;
    call(&upper, &turn, &size, &inner, &one, const_cast<T*>(a), &ld, &beta, c, &size);
}

template <class T, class Potrf>
bool potrf(Potrf call, T* a, int n) {
    char upper = 'U';
    int info = 0;
    call(&upper, &n, a, &n, &info);
    return info == 0;
}

}  // namespace

void syrk_upper(const float* a, bool rows, int size, int inner, int ld, bool add, float* c) {
    syrk(blas().ssyrk, a, rows, size, inner, ld, add, c);
}

void syrk_upper(const double* a, bool rows, int size, int inner, int ld, bool add, double* c) {
    syrk(blas().dsyrk, a, rows, size, inner, ld, add, c);
}

bool potrf_upper(float* a, int n) { return potrf(blas().spotrf, a, n); }

bool potrf_upper(double* a, int n) { return potrf(blas().dpotrf, a, n); }

bool trtri_upper(double* a, int n) {
    char upper = 'U', diagonal = 'N';
    int info = 0;
    blas().dtrtri(&upper, &diagonal, &n, a, &n, &info);
    return info == 0;
}

}  // namespace lead_fast
