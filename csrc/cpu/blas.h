// BLAS and LAPACK as SciPy exports them: the extension links none of its own.
#pragma once

#include <string>

namespace lead_fast {

using Gemm32 = void (*)(char* transa, char* transb, int* m, int* n, int* k, float* alpha, float* a,
                        int* lda, float* b, int* ldb, float* beta, float* c, int* ldc);
using Gemm64 = void (*)(char* transa, char* transb, int* m, int* n, int* k, double* alpha,
                        double* a, int* lda, double* b, int* ldb, double* beta, double* c,
                        int* ldc);
using Syrk32 = void (*)(char* uplo, char* trans, int* n, int* k, float* alpha, float* a, int* lda,
                        float* beta, float* c, int* ldc);
using Syrk64 = void (*)(char* uplo, char* trans, int* n, int* k, double* alpha, double* a, int* lda,
                        double* beta, double* c, int* ldc);
using Potrf32 = void (*)(char* uplo, int* n, float* a, int* lda, int* info);
using Potrf64 = void (*)(char* uplo, int* n, double* a, int* lda, int* info);
using Trtri64 = void (*)(char* uplo, char* diag, int* n, double* a, int* lda, int* info);
using Syevd64 = void (*)(char* jobz, char* uplo, int* n, double* a, int* lda, double* w,
                         double* work, int* lwork, int* iwork, int* liwork, int* info);

struct Blas {
    Gemm32 sgemm = nullptr;
    Gemm64 dgemm = nullptr;
    Syrk32 ssyrk = nullptr;
    Syrk64 dsyrk = nullptr;
    Potrf32 spotrf = nullptr;
    Potrf64 dpotrf = nullptr;
    Trtri64 dtrtri = nullptr;
    Syevd64 dsyevd = nullptr;
};

// Set once when the module is loaded.
Blas& blas();

// Row-major C (m, n) = A (m, k) op(B), with B (k, n), or (n, k) if transposed. Sizes below 2^31.
void matmul(const float* a, const float* b, bool transpose_b, int m, int n, int k, float* c);
void matmul(const double* a, const double* b, bool transpose_a, int m, int n, int k, double* c);

// Row-major C (m, m) = A A^T, A (m, k); both triangles.
void gram(const float* a, int m, int k, float* c);

// Upper triangle of column-major C (size, size) = A^T A, or A A^T if `rows`, added to what is there
// if `add`: A is row-major with leading dimension ld, (inner, size), or (size, inner) if `rows`.
void syrk_upper(const float* a, bool rows, int size, int inner, int ld, bool add, float* c);
void syrk_upper(const double* a, bool rows, int size, int inner, int ld, bool add, double* c);

// Upper triangle of column-major A (n, n) becomes its Cholesky factor; false if it has none.
bool potrf_upper(float* a, int n);
bool potrf_upper(double* a, int n);

// Upper triangle of column-major A (n, n) becomes its inverse; false if that has none.
bool trtri_upper(double* a, int n);

}  // namespace lead_fast
